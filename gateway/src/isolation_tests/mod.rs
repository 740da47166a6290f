//! Tenants that attack each other: requests that are made to collide, and in no answer, header, error or prompt stands what is
//! another tenant's.
//!
//! Everything between the socket and the tier is the real thing. The tier answers each request with a word that it never said
//! before, and notes whose it is by the scope of the request, which is the one thing of a tenant that reaches a tier.

mod witness;

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use axum::response::Response;
use http::StatusCode;
use parking_lot::Mutex;
use rand::rngs::SmallRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use reprise_accounts::Limits;
use reprise_accounts::keys::sha256;
use reprise_router::PolicyKind;
use serde_json::{Value, json};

use crate::chat::scripted::{Stage, text};
use crate::config::KeyEntry;
use witness::{Witness, words};

const TENANTS: usize = 8;
const QUESTIONS: usize = 24;
const TASKS: usize = 32;
const ATTACKS: usize = 100_000;
const ADMIN: &str = "the-admin-key";

struct Siege {
    stage: Stage,
    tier: Arc<Witness>,
    /// Of each tenant's own requests.
    scopes: Vec<u64>,
    /// Ids of stored responses, and whose they are.
    responses: Mutex<Vec<(usize, String)>>,
    hits: AtomicU64,
    with_examples: AtomicU64,
    refused: AtomicU64,
}

fn key(tenant: usize) -> String {
    format!("key-of-{tenant}")
}

fn question(number: usize) -> String {
    format!("which colour has thing{number} in the room of mirrors")
}

fn chat(question: &str) -> Value {
    json!({"model": "auto", "temperature": 0, "max_tokens": 16, "messages": [{"role": "user", "content": question}]})
}

impl Siege {
    async fn lay() -> Self {
        let tier = Witness::new();
        let stage = Stage::of(PolicyKind::SmallExamples, vec![Arc::clone(&tier) as _], false, |config| {
            config.auth.admin_key = Some(ADMIN.into());
            config.auth.keys = (0..TENANTS)
                .map(|tenant| KeyEntry {
                    name: format!("k{tenant}"),
                    tenant: format!("t{tenant}"),
                    sha256: sha256(&key(tenant)).0,
                    tiers: None,
                    limits: Limits::default(),
                })
                .collect();
        });
        let mut siege = Self {
            stage,
            tier,
            scopes: Vec::new(),
            responses: Mutex::default(),
            hits: AtomicU64::new(0),
            with_examples: AtomicU64::new(0),
            refused: AtomicU64::new(0),
        };
        for tenant in 0..TENANTS {
            for number in 0..QUESTIONS {
                let told = text(
                    siege.send(tenant, "POST", "/v1/chat/completions", &chat(&question(number)), &[]).await,
                )
                .await;
                if number == 0 {
                    siege.scopes.push(siege.tier.said.lock()[words(&told)[0]]);
                }
            }
            siege.stage.settled().await;
        }
        assert_eq!(siege.scopes.iter().collect::<HashSet<_>>().len(), TENANTS, "a scope each");
        siege
    }

    async fn send(
        &self,
        tenant: usize,
        method: &str,
        path: &str,
        body: &Value,
        more: &[(&str, &str)],
    ) -> Response {
        let bearer = format!("Bearer {}", key(tenant));
        let mut headers = vec![("authorization", bearer.as_str())];
        headers.extend(more);
        self.stage.send_to(method, path, body, &headers).await
    }

    /// What came back, once it is sure that nothing in it is another's.
    async fn checked(&self, tenant: usize, response: Response) -> (StatusCode, String) {
        let (status, headers) = (response.status(), format!("{:?}", response.headers()));
        self.hits.fetch_add(u64::from(headers.contains("\"HIT\"")), Relaxed);
        self.with_examples.fetch_add(u64::from(headers.contains("\"EXAMPLES\"")), Relaxed);
        let told = text(response).await;
        for number in words(&told).into_iter().chain(words(&headers)) {
            let whose = self.tier.said.lock()[number];
            assert_eq!(whose, self.scopes[tenant], "secret-{number} was told to t{tenant}: {told}");
        }
        (status, told)
    }

    async fn attack(&self, rng: &mut SmallRng) {
        let tenant = rng.random_range(0..TENANTS);
        let other = (tenant + rng.random_range(1..TENANTS)) % TENANTS;
        let foreign = format!("t{other}");
        let foreign_key = key(other);
        // Names that requests of all tenants share.
        let shared_id = format!("req_shared_{}", rng.random_range(0..64));
        let headers = [
            ("x-request-id", shared_id.as_str()),
            ("x-tenant", foreign.as_str()),
            ("x-reprise-tenant", foreign.as_str()),
            ("openai-organization", foreign.as_str()),
            ("openai-project", foreign.as_str()),
            ("x-api-key", foreign_key.as_str()),
            ("x-forwarded-user", foreign.as_str()),
        ];
        let mut body = chat(&question(rng.random_range(0..QUESTIONS)));
        body["user"] = json!(foreign);
        body["prompt_cache_key"] = json!("shared");
        body["metadata"] = json!({ "tenant": foreign });
        match rng.random_range(0..1000) {
            0..830 => {
                body["stream"] = json!(rng.random_bool(0.1));
                let answer = self.send(tenant, "POST", "/v1/chat/completions", &body, &headers).await;
                assert_eq!(self.checked(tenant, answer).await.0, 200);
            }
            // Near to what all tenants asked, and to be answered anew: with examples.
            830..880 => {
                let near = format!("please {}", body["messages"][0]["content"].as_str().unwrap());
                body["messages"][0]["content"] = json!(near);
                body["temperature"] = json!(1);
                let answer = self.send(tenant, "POST", "/v1/chat/completions", &body, &headers).await;
                assert_eq!(self.checked(tenant, answer).await.0, 200);
            }
            880..920 => {
                let body = json!({"model": "auto", "temperature": 0, "prompt": question(0), "user": foreign});
                let answer = self.send(tenant, "POST", "/v1/completions", &body, &headers).await;
                assert_eq!(self.checked(tenant, answer).await.0, 200);
            }
            920..950 => self.responses(tenant, other, rng, &headers).await,
            950..970 => {
                let path = format!("/v1/responses/{}", self.response_of(other, rng));
                let (method, path) = match rng.random_range(0..3) {
                    0 => ("GET", path),
                    1 => ("DELETE", path),
                    _ => ("GET", format!("{path}/input_items")),
                };
                let answer = self.send(tenant, method, &path, &Value::Null, &headers).await;
                self.refused(tenant, answer, StatusCode::NOT_FOUND).await;
            }
            970..990 => {
                // Only its own request of that name, if there is one: what it says would stand in another's record else.
                let rating = tenant as f64 / 10.0;
                let body = json!({"request_id": shared_id, "rating": rating});
                let answer = self.send(tenant, "POST", "/v1/feedback", &body, &[]).await;
                let (status, _) = self.checked(tenant, answer).await;
                assert!(status == 202 || status == 404, "{status}");
            }
            _ => {
                let path = [
                    format!("/admin/v1/examples?tenant={foreign}"),
                    format!("/admin/v1/router/decisions/{shared_id}"),
                    format!("/admin/v1/usage?tenant={foreign}"),
                    "/admin/v1/keys".to_owned(),
                    "/admin/v1/state".to_owned(),
                    "/admin/v1/events".to_owned(),
                    "/admin/v1/outcomes".to_owned(),
                ];
                let answer =
                    self.send(tenant, "GET", path.choose(rng).unwrap(), &Value::Null, &headers).await;
                self.refused(tenant, answer, StatusCode::UNAUTHORIZED).await;
            }
        }
    }

    /// A response that goes on from another's must not; one of its own may.
    async fn responses(&self, tenant: usize, other: usize, rng: &mut SmallRng, headers: &[(&str, &str)]) {
        let mut body =
            json!({"model": "auto", "input": question(0), "temperature": 0, "user": format!("t{other}")});
        let stolen = rng.random_bool(0.5);
        if stolen {
            body["previous_response_id"] = json!(self.response_of(other, rng));
        }
        let answer = self.send(tenant, "POST", "/v1/responses", &body, headers).await;
        if stolen {
            return self.refused(tenant, answer, StatusCode::BAD_REQUEST).await;
        }
        let (status, told) = self.checked(tenant, answer).await;
        assert_eq!(status, 200, "{told}");
        let told: Value = serde_json::from_str(&told).unwrap();
        self.responses.lock().push((tenant, told["id"].as_str().unwrap().to_owned()));
    }

    /// One that is there if there is one.
    fn response_of(&self, tenant: usize, rng: &mut SmallRng) -> String {
        let responses = self.responses.lock();
        let own: Vec<&String> =
            responses.iter().filter(|(owner, _)| *owner == tenant).map(|(_, id)| id).collect();
        own.choose(rng).map_or_else(|| format!("resp_{:032x}", 7), |id| (*id).clone())
    }

    async fn refused(&self, tenant: usize, response: Response, expected: StatusCode) {
        let (status, told) = self.checked(tenant, response).await;
        assert_eq!(status, expected, "{told}");
        self.refused.fetch_add(1, Relaxed);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_sees_what_is_anothers_in_a_hundred_thousand_tries() {
    let siege = Arc::new(Siege::lay().await);
    let tasks = (0..TASKS).map(|task| {
        let siege = Arc::clone(&siege);
        tokio::spawn(async move {
            let mut rng = SmallRng::seed_from_u64(task as u64);
            for _ in 0..ATTACKS / TASKS {
                siege.attack(&mut rng).await;
            }
        })
    });
    for task in tasks.collect::<Vec<_>>() {
        task.await.unwrap();
    }
    siege.stage.settled().await;
    assert_eq!(siege.tier.leaks.lock().first(), None, "in prompts");
    let count = |counter: &AtomicU64| counter.load(Relaxed);
    let (hits, examples) = (count(&siege.hits), count(&siege.with_examples));
    let (reread, refused) = (count(&siege.tier.reread), count(&siege.refused));
    // The attack was one: most were answered from memory, many prompts held examples, and doors were tried.
    assert!(
        hits > 50_000 && examples > 2_000 && reread > 2_000 && refused > 2_000,
        "{hits} {examples} {reread} {refused}"
    );

    // Stored responses are still their owners', and theirs alone.
    let stored = siege.responses.lock().clone();
    for (owner, id) in stored.into_iter().take(200) {
        for tenant in [owner, (owner + 1) % TENANTS] {
            let answer = siege.send(tenant, "GET", &format!("/v1/responses/{id}"), &Value::Null, &[]).await;
            assert_eq!(siege.checked(tenant, answer).await.0.is_success(), tenant == owner);
        }
    }
    for tenant in 0..TENANTS {
        for number in 0..64 {
            let body = json!({"request_id": format!("req_shared_{number}"), "rating": tenant as f64 / 10.0});
            let answer = siege.send(tenant, "POST", "/v1/feedback", &body, &[]).await;
            siege.checked(tenant, answer).await;
        }
    }
    // A rating stands in its own tenant's record, although the names were the same.
    let mut rated = 0;
    for record in siege.stage.state.decisions.newest(usize::MAX) {
        let Some(rating) = record.rating else { continue };
        assert_eq!(format!("t{:.0}", rating * 10.0), record.tenant.as_str(), "{}", record.request_id);
        rated += 1;
    }
    assert!(rated > 32 * TENANTS, "{rated}");
    // An id of an example under another tenant's name finds nothing, not even for the administrator.
    let admin = [("authorization", format!("Bearer {ADMIN}"))];
    let admin: Vec<(&str, &str)> = admin.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let list = siege.stage.send_to("GET", "/admin/v1/examples?tenant=t0&limit=5", &Value::Null, &admin).await;
    let list: Value = serde_json::from_str(&text(list).await).unwrap();
    for example in list["data"].as_array().unwrap() {
        for (tenant, expected) in [("t0", 200), ("t1", 404), ("nobody", 404)] {
            let path = format!("/admin/v1/examples/{}?tenant={tenant}", example["id"].as_str().unwrap());
            let found = siege.stage.send_to("GET", &path, &Value::Null, &admin).await;
            assert_eq!(found.status().as_u16(), expected);
        }
    }
}
