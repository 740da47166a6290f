//! What operators, the console and the replay job see and change.
#![cfg(test)]

mod support;

use reqwest::Method;
use serde_json::{Value, json};
use support::{CAPITAL, CAPITAL_AGAIN, Gateway, Setup, ask};

#[tokio::test]
async fn one_replay_runs_at_a_time() {
    let gateway = Gateway::start(Setup::small()).await;
    let lease = async |holder: &str| {
        gateway.send(Method::POST, "/admin/v1/replay/lease", &json!({"holder": holder, "ttl_s": 60})).await
    };

    let first = lease("a").await;
    assert_eq!(first.status.as_u16(), 201, "{first:#?}");
    let id = first.value()["lease"].as_str().expect("an id").to_owned();
    assert!(first.value()["expires_in_s"].as_f64().is_some_and(|seconds| seconds > 0.0 && seconds <= 60.0));

    let refused = lease("b").await;
    refused.assert_error(409, None);
    assert!(refused.header("retry-after").parse::<u64>().is_ok());

    let path = format!("/admin/v1/replay/lease/{id}");
    assert!(gateway.send(Method::PUT, &path, &json!({"ttl_s": 60})).await.status.is_success(), "renewed");
    assert!(gateway.send(Method::DELETE, &path, &json!({})).await.status.is_success(), "released");
    assert_eq!(lease("b").await.status.as_u16(), 201);
    gateway.send(Method::PUT, &path, &json!({"ttl_s": 60})).await.assert_error(404, None);

    let report = json!({"stopped_because": "budget", "improved": [{"id": "x"}], "tokens_spent": 120});
    let posted = gateway.send(Method::POST, "/admin/v1/replay/runs", &report).await;
    assert_eq!(posted.status.as_u16(), 201, "{posted:#?}");
    let runs = gateway.get("/admin/v1/replay/runs").await.json();
    assert_eq!(runs["data"][0]["report"], report, "{runs:#}");
    let metrics = gateway.metrics().await;
    assert_eq!(metrics.sum("reprise_replay_runs_total", &[("result", "budget")]), 1.0);
    assert_eq!(metrics.sum("reprise_replay_improved_total", &[]), 1.0);
    assert_eq!(metrics.sum("reprise_replay_tokens_total", &[]), 120.0);
}

#[tokio::test]
async fn the_policy_is_switched_while_it_runs() {
    let gateway = Gateway::start(Setup::small().router("policy = \"bandit\"")).await;
    assert_eq!(gateway.get("/admin/v1/router").await.json()["policy"], "bandit");
    gateway.chat(&ask("auto", CAPITAL)).await;
    gateway.examples("default", 1).await;

    let put = async |policy: &str| {
        gateway.send(Method::PUT, "/admin/v1/router/policy", &json!({"policy": policy})).await
    };
    let switched = put("small-plain").await.json();
    assert_eq!((&switched["policy"], &switched["previous"]), (&json!("small-plain"), &json!("bandit")));
    // Not remembered, so that one example is all there is.
    let plain = gateway.chat_with(&ask("auto", CAPITAL_AGAIN), &[("x-reprise-cache", "read-only")]).await;
    assert_eq!(plain.header("x-reprise-examples"), "0");
    put("small-examples").await.json();
    assert_eq!(
        gateway.chat(&ask("auto", "Tell me: what is the capital of Germany?")).await.cache(),
        "EXAMPLES"
    );
    put("by-the-stars").await.assert_error(400, None);
    assert_eq!(
        gateway.get("/admin/v1/router").await.json()["policy"],
        "small-examples",
        "a refused switch changes nothing"
    );

    let decision = &gateway.get("/admin/v1/router/decisions?limit=1").await.json()["data"][0].clone();
    assert_eq!(decision["tier"], "small", "{decision:#}");
    assert_eq!(
        decision["cache"].as_str().map(str::to_uppercase).as_deref(),
        Some("EXAMPLES"),
        "{decision:#}"
    );
    let shown = decision["example_count"].as_u64().expect("a count");
    assert!(shown >= 1, "{decision:#}");
    let id = decision["request_id"].as_str().expect("an id");
    let one = gateway.get(&format!("/admin/v1/router/decisions/{id}")).await.json();
    assert_eq!(&one["request_id"], &decision["request_id"]);
    assert!(one["decision"]["scores"].is_array(), "{one:#}");
    let examples = one["examples"].as_array().expect("the examples that were shown");
    assert_eq!(examples.len() as u64, shown);
    assert!(examples.iter().any(|example| example["request"] == CAPITAL), "{one:#}");
    gateway
        .get("/admin/v1/router/decisions/0191aaaa-0000-7000-8000-000000000000")
        .await
        .assert_error(404, None);
}

#[tokio::test]
async fn examples_are_imported_listed_changed_and_deleted() {
    let gateway = Gateway::start(Setup::small().router("policy = \"small-examples\"")).await;
    let batch = json!({"tenant": "default", "examples": [
        {"request": "Translate 'bread' into French.", "answer": "pain", "quality": 1.0, "source": "test"},
        {"request": "Name a prime number above ninety.", "answer": "97", "quality": 0.9},
        {"request": "", "answer": "nothing was asked"},
    ]});
    let imported = gateway.send(Method::POST, "/admin/v1/examples/import", &batch).await.json();
    assert_eq!(
        (&imported["inserted"], &imported["refused"][0]["index"]),
        (&json!(2), &json!(2)),
        "{imported:#}"
    );

    let listed = gateway.examples("default", 2).await;
    let bread = listed.iter().find(|example| example["answer"] == "pain").expect("the imported one");
    assert!(bread.get("embedding").is_none_or(Value::is_null));
    let path = format!("/admin/v1/examples/{}?tenant=default", bread["id"].as_str().expect("an id"));
    assert_eq!(gateway.get(&path).await.json()["answer"], "pain");

    let near = gateway.chat(&ask("auto", "Translate 'bread' into French, please.")).await;
    assert_eq!(near.cache(), "EXAMPLES", "an imported pair is shown like any other");

    let patched = gateway.send(Method::PATCH, &path, &json!({"answer": "le pain", "quality": 0.95})).await;
    assert!(patched.status.is_success(), "{patched:#?}");
    let after = gateway.get(&path).await.json();
    assert_eq!(after["answer"], "le pain");
    gateway.send(Method::PATCH, &path, &json!({"quality": 7})).await.assert_error(400, None);

    assert!(gateway.send(Method::DELETE, &path, &json!({})).await.status.is_success());
    gateway.get(&path).await.assert_error(404, None);
    assert!(
        gateway
            .send(Method::DELETE, "/admin/v1/examples?tenant=default", &json!({}))
            .await
            .status
            .is_success()
    );
    let left = gateway.get("/admin/v1/examples?tenant=default").await.json();
    assert_eq!(left["data"], json!([]));
    assert_eq!(
        gateway
            .chat(&ask("auto", "Translate 'bread' into French, I beg you."))
            .await
            .header("x-reprise-examples"),
        "0"
    );
}

#[tokio::test]
async fn a_correction_replaces_the_answer() {
    let gateway = Gateway::start(Setup::small().router("policy = \"small-examples\"")).await;
    let reply = gateway.chat(&ask("auto", CAPITAL)).await;
    gateway.examples("default", 1).await;
    let told = json!({"request_id": reply.header("x-request-id"), "corrected": "Berlin, on the Spree."});
    assert_eq!(gateway.send(Method::POST, "/v1/feedback", &told).await.status.as_u16(), 202);
    support::wait::eventually("the example is corrected", || async {
        let examples = gateway.examples("default", 1).await;
        examples
            .iter()
            .any(|example| example["answer"] == "Berlin, on the Spree." && example["quality"] == 1.0)
            .then_some(())
    })
    .await;
}

#[tokio::test]
async fn the_admin_key_guards_it_all() {
    let gateway = Gateway::start(Setup::small().admin().key("red", "key-of-red")).await;
    for (key, status) in [(None, 401), (Some("key-of-red"), 403), (Some("wrong"), 401)] {
        for path in ["/admin/v1/state", "/admin/v1/pool", "/admin/v1/examples?tenant=red", "/admin/v1/router"]
        {
            let mut request = gateway.request(Method::GET, path);
            if let Some(key) = key {
                request = request.bearer_auth(key);
            }
            let reply = support::reply::Reply::read(request.send().await.expect("an answer")).await;
            let got = reply.status.as_u16();
            assert!(
                got == status || (key.is_some() && [401, 403].contains(&got)),
                "{path} with {key:?}: {reply:#?}"
            );
            reply.assert_error(got, None);
        }
    }
    let gateway = gateway.with_key(support::setup::ADMIN_KEY);
    let state = gateway.get("/admin/v1/state").await.json();
    assert!(state.is_object());
    let pool = gateway.get("/admin/v1/pool").await.json();
    assert_eq!(pool["tiers"][0]["name"], "small", "{pool:#}");
    assert!(pool["load"].is_number() && pool["idle"].is_boolean(), "{pool:#}");
}
