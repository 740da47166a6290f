//! Whatever comes in: no panic, no 5xx, and what is refused is refused in OpenAI's shape.

mod bodies;

use std::sync::{Arc, LazyLock};

use axum::body::{Body, to_bytes};
use axum::http::Request;
use http::{HeaderName, HeaderValue, Method};
use proptest::prelude::*;
use proptest::sample::{Index, select};
use reprise_accounts::Limits;
use reprise_accounts::keys::sha256;
use reprise_router::PolicyKind;
use serde_json::{Value, json};
use tokio::runtime::Runtime;

use crate::chat::scripted::{Play, Scripted, Stage};
use crate::config::KeyEntry;
use bodies::{any_json, mutate, valid};

const ADMIN: &str = "the-admin-key";

struct Fixture {
    runtime: Runtime,
    stage: Stage,
}

/// One for all cases: what one leaves behind is what the next one meets.
static FIXTURE: LazyLock<Fixture> = LazyLock::new(|| {
    let runtime = Runtime::new().unwrap();
    let small = Scripted::new("small", 0.1, &[Play::Say("the sky is blue")]);
    let large: Arc<Scripted> = Scripted::new("large", 1.0, &[Play::Call("", "f", &["{\"a\": 1}"])]);
    let stage = runtime.block_on(async {
        Stage::with(PolicyKind::Bandit, &[&small, &large], false, |config| {
            config.auth.admin_key = Some(ADMIN.into());
            // Where there is a key, nobody comes in without.
            config.auth.keys.push(KeyEntry {
                name: "k".into(),
                tenant: "t".into(),
                sha256: sha256("a-key").0,
                tiers: None,
                limits: Limits::default(),
            });
        })
    });
    Fixture { runtime, stage }
});

fn sent(method: &Method, path: &str, body: Vec<u8>, more: &[(HeaderName, HeaderValue)]) -> u16 {
    let mut request = Request::builder().method(method).uri(path);
    let own = [
        ("content-type", "application/json"),
        ("host", "localhost"),
        ("authorization", "Bearer the-admin-key"),
    ];
    for (name, value) in own.iter().filter(|(name, _)| more.iter().all(|(other, _)| other != name)) {
        request = request.header(*name, *value);
    }
    for (name, value) in more {
        request = request.header(name, value);
    }
    let shown = String::from_utf8_lossy(&body).into_owned();
    let request = request.body(Body::from(body)).unwrap();
    FIXTURE.runtime.block_on(async {
        let response = FIXTURE.stage.send_raw(request).await;
        let status = response.status().as_u16();
        let kind = response.headers().get("content-type").map(|kind| kind.to_str().unwrap().to_owned());
        let events = kind.is_some_and(|kind| kind.starts_with("text/event-stream"));
        let told = to_bytes(response.into_body(), usize::MAX).await.unwrap();
        let told = String::from_utf8_lossy(&told);
        assert!(status < 500, "{status} {told} for {method} {path} {shown}");
        if status >= 400 {
            let error: Value = serde_json::from_str(&told).unwrap_or_default();
            let named =
                ["message", "type", "param", "code"].iter().all(|name| error["error"].get(name).is_some());
            assert!(named, "{status} {told:?} for {method} {path} {shown}");
        } else if events {
            assert!(!told.contains("\"server_error\""), "{told} for {shown}");
        } else if !told.is_empty() {
            assert!(serde_json::from_str::<Value>(&told).is_ok(), "{told}");
        }
        status
    })
}

#[test]
fn what_is_mutated_is_valid_before() {
    for (method, path, body) in valid() {
        let status = sent(&method, path, body.to_string().into_bytes(), &[]);
        // Of what is named in the path there is none here, the vectors have another size, and a lease may be taken.
        if path.ends_with("/lease") {
            continue;
        }
        let found = !path.contains("0192d3a0")
            && !path.contains("key_0")
            && !path.ends_with("/utility")
            && path != "/v1/feedback";
        assert_eq!(found, status < 400, "{method} {path}: {status}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1500))]

    #[test]
    fn bodies_that_nearly_hold(
        which in any::<Index>(),
        changes in prop::collection::vec((any::<Index>(), any_json(), prop::bool::weighted(0.2)), 1..4),
        extra in prop::option::weighted(0.3, ("[a-z_]{1,16}", any_json())),
    ) {
        let all = valid();
        let (method, path, mut body) = all[which.index(all.len())].clone();
        for (at, new, remove) in &changes {
            mutate(&mut body, *at, new, *remove);
        }
        if let (Some((name, value)), Some(body)) = (extra, body.as_object_mut()) {
            body.insert(name, value);
        }
        sent(&method, path, body.to_string().into_bytes(), &[]);
    }

    #[test]
    fn bodies_of_any_json_and_of_any_bytes(which in any::<Index>(), body in any_json(), bytes in prop::collection::vec(any::<u8>(), 0..64)) {
        let all = valid();
        let (method, path, valid) = &all[which.index(all.len())];
        sent(method, path, body.to_string().into_bytes(), &[]);
        sent(method, path, bytes.clone(), &[]);
        // Cut, and followed by more.
        let text = valid.to_string();
        let cut = text.floor_char_boundary(bytes.len() * text.len() / 64);
        sent(method, path, [&text.as_bytes()[..cut], &bytes].concat(), &[]);
    }

    #[test]
    fn headers_of_the_contract(
        values in prop::collection::vec((
            select(&["x-reprise-cache", "x-reprise-max-examples", "x-reprise-priority", "cache-control", "x-request-id", "authorization", "content-type", "host", "origin"][..]),
            prop::collection::vec(any::<u8>().prop_filter("no line end", |byte| !matches!(byte, 0..32 | 127)), 0..32),
        ), 1..4),
    ) {
        let headers: Vec<(HeaderName, HeaderValue)> = values
            .into_iter()
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_bytes(&value).unwrap()))
            .collect();
        let body = json!({"model": "small", "messages": [{"role": "user", "content": "which colour has the sky"}], "temperature": 0});
        sent(&Method::POST, "/v1/chat/completions", body.to_string().into_bytes(), &headers);
        sent(&Method::GET, "/admin/v1/state", Vec::new(), &headers);
    }

    #[test]
    fn keys_that_are_none(key in "(?:[Bb]earer|[Bb]asic)? ?[ -~]{0,64}") {
        prop_assume!(!key.contains(ADMIN));
        let headers = [(http::header::AUTHORIZATION, HeaderValue::from_str(&key).unwrap())];
        for path in ["/v1/models", "/admin/v1/keys"] {
            prop_assert_eq!(sent(&Method::GET, path, Vec::new(), &headers), 401, "{} {}", path, key);
        }
    }

    #[test]
    fn paths_and_queries(segment in "[!-~]{0,24}", query in "[!-~]{0,24}") {
        let safe = |text: &str| text.replace(['#', '?', '\\', '"', '<', '>', '^', '`', '{', '|', '}'], "%ff");
        for path in ["/v1/models/", "/v1/responses/", "/admin/v1/examples/", "/admin/v1/keys/", "/admin/v1/router/decisions/"] {
            let path = format!("{path}{}?{}", safe(&segment), safe(&query));
            if path.parse::<http::Uri>().is_ok() {
                sent(&Method::GET, &path, Vec::new(), &[]);
            }
        }
    }
}
