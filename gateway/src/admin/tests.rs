//! The admin interface as a client meets it.

use http::header::RETRY_AFTER;
use http::{Method, StatusCode};
use serde_json::{Value, json};

use super::testing::{Fixture, LOCAL, json as read, record};

async fn import(fixture: &Fixture, tenant: &str, examples: Value) -> (StatusCode, Value) {
    let body = json!({"tenant": tenant, "examples": examples});
    fixture.call(Method::POST, "/examples/import", Some(body)).await
}

async fn listed(fixture: &Fixture, query: &str) -> Vec<String> {
    let (status, page) = fixture.call(Method::GET, &format!("/examples?{query}"), None).await;
    assert_eq!(status, StatusCode::OK, "{page}");
    page["data"].as_array().unwrap().iter().map(|it| it["request"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn with_a_key_the_key_is_needed_from_everywhere() {
    let fixture = Fixture::new(Some("secret"));
    assert_eq!(fixture.status_with(None, LOCAL).await, StatusCode::UNAUTHORIZED);
    assert_eq!(fixture.status_with(Some("guess"), LOCAL).await, StatusCode::UNAUTHORIZED);
    assert_eq!(fixture.status_with(Some("secret"), LOCAL).await, StatusCode::OK);
    assert_eq!(fixture.status_with(Some("secret"), "10.0.0.5:1").await, StatusCode::OK);
}

#[tokio::test]
async fn without_a_key_only_this_machine_may_call() {
    let fixture = Fixture::new(None);
    assert_eq!(fixture.status_with(None, LOCAL).await, StatusCode::OK);
    assert_eq!(fixture.status_with(None, "10.0.0.5:1").await, StatusCode::FORBIDDEN);
    let rebound = fixture.raw(Method::GET, "/state", &[("host", "evil.example:8080")], LOCAL, None).await;
    assert_eq!(rebound.status(), StatusCode::FORBIDDEN);
}

#[tokio::test]
async fn a_foreign_page_changes_nothing_and_every_change_is_noted() {
    let fixture = Fixture::new(None);
    let switch = async |origin: &str| {
        let body = json!({"policy": "small-plain"});
        fixture.raw(Method::PUT, "/router/policy", &[("origin", origin)], LOCAL, Some(body)).await.status()
    };
    assert_eq!(switch("http://evil.example").await, StatusCode::FORBIDDEN);
    assert_eq!(fixture.app.router.policy().as_str(), "bandit");
    assert_eq!(fixture.audit().len(), 0);
    assert_eq!(switch("http://localhost:8080").await, StatusCode::OK);
    assert_eq!(fixture.app.router.policy().as_str(), "small-plain");
    let audit = fixture.audit();
    assert_eq!(audit.len(), 2);
    assert_eq!(audit[0]["target"], "/admin/v1/router/policy");
    assert_eq!((&audit[1]["status"], &audit[1]["call"]), (&json!(200), &audit[0]["call"]));
}

#[tokio::test]
async fn keys_are_made_changed_and_revoked() {
    let fixture = Fixture::new(None);
    let new = json!({"name": "n", "tenant": "t", "tiers": ["small"], "limits": {"requests_per_minute": 5}});
    let (status, made) = fixture.call(Method::POST, "/keys", Some(new)).await;
    assert_eq!(status, StatusCode::CREATED, "{made}");
    assert_eq!((&made["state"], &made["tiers"]), (&json!("active"), &json!(["small"])));
    assert_eq!(made["limits"], json!({"requests_per_minute": 5, "budget_period": "month"}));
    let secret = made["secret"].as_str().unwrap();
    assert!(made["hint"].as_str().unwrap().trim_end_matches('…').len() < secret.len() / 2);
    let path = format!("/keys/{}", made["id"].as_str().unwrap());
    let change = json!({"name": "m", "tiers": null, "limits": {"budget_money": 2.5, "budget_period": "day"}});
    let (_, changed) = fixture.call(Method::PATCH, &path, Some(change)).await;
    assert_eq!((&changed["name"], &changed["tiers"]), (&json!("m"), &Value::Null), "{changed}");
    assert_eq!(changed["limits"], json!({"budget_money": 2.5, "budget_period": "day"}));
    for (body, param) in [
        (json!({"name": " "}), Some("name")),
        (json!({"tiers": ["none"]}), Some("tiers")),
        (json!({"limits": {"budget_money": -1}}), None),
        (json!({"limits": {"tokens": 1}}), None),
        (json!({"tenant": "other"}), None),
    ] {
        let (status, error) = fixture.call(Method::PATCH, &path, Some(body.clone())).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{body}");
        assert_eq!(error["error"]["param"].as_str(), param, "{body}");
    }
    let (_, listed) = fixture.call(Method::GET, "/keys?tenant=other", None).await;
    assert_eq!(listed["data"], json!([]));
    let (_, revoked) = fixture.call(Method::DELETE, &path, None).await;
    assert_eq!(revoked["state"], "revoked");
    assert_eq!(fixture.call(Method::PATCH, &path, Some(json!({"name": "x"}))).await.0, StatusCode::CONFLICT);
    assert_eq!(fixture.call(Method::DELETE, "/keys/key_none", None).await.0, StatusCode::NOT_FOUND);
    let (status, _) =
        fixture.call(Method::POST, "/keys", Some(json!({"name": "n", "tenant": "admin"}))).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    let (_, usage) = fixture.call(Method::GET, "/usage", None).await;
    assert_eq!(usage["data"], json!([]), "nobody has used anything");
}

#[tokio::test]
async fn an_unknown_policy_is_refused_with_the_names_that_are_known() {
    let fixture = Fixture::new(None);
    let (status, body) = fixture.call(Method::PUT, "/router/policy", Some(json!({"policy": "best"}))).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert_eq!(body["error"]["param"], "policy");
    assert!(body["error"]["message"].as_str().unwrap().contains("win-probability"), "{body}");
}

#[tokio::test]
async fn an_import_takes_what_is_good_and_says_what_is_wrong_with_the_rest() {
    let fixture = Fixture::new(None);
    let examples = json!([
        {"request": "alpha beta", "answer": "one", "quality": 0.5},
        {"request": "", "answer": "two"},
        {"request": "alpha beta", "answer": "better", "quality": 0.9},
        {"request": "gamma", "answer": "x".repeat(40 << 10)},
        "not a pair",
    ]);
    let (status, body) = import(&fixture, "t", examples).await;
    assert_eq!(status, StatusCode::OK, "{body}");
    assert_eq!((&body["inserted"], &body["merged"]), (&json!(1), &json!(1)));
    let refused: Vec<_> = body["refused"].as_array().unwrap().iter().map(|it| &it["index"]).collect();
    assert_eq!(refused, [&json!(1), &json!(3), &json!(4)]);
    let (_, page) = fixture.call(Method::GET, "/examples?tenant=t", None).await;
    assert_eq!(page["data"][0]["answer"], "better");
    assert_eq!(page["data"][0]["embedding"], Value::Null);
}

#[tokio::test]
async fn an_import_has_an_upper_limit() {
    let pair = json!({"request": "q", "answer": "a"});
    let (status, body) = import(&Fixture::new(None), "t", Value::from(vec![pair; 257])).await;
    assert_eq!((status, &body["error"]["param"]), (StatusCode::BAD_REQUEST, &json!("examples")));
}

#[tokio::test]
async fn a_listing_goes_on_where_the_page_before_ended() {
    let fixture = Fixture::new(None);
    let words = ["alpha", "bravo", "charlie", "delta", "echo"];
    let pairs: Vec<Value> = words.iter().map(|word| json!({"request": word, "answer": "a"})).collect();
    import(&fixture, "t", pairs.into()).await;
    let mut seen = Vec::new();
    let mut after = String::new();
    loop {
        let path = format!("/examples?tenant=t&order=value&limit=2{after}");
        let (_, page) = fixture.call(Method::GET, &path, None).await;
        let data = page["data"].as_array().unwrap();
        seen.extend(data.iter().map(|it| it["request"].as_str().unwrap().to_owned()));
        if page["has_more"] == json!(false) {
            break;
        }
        after = format!("&after={}", data.last().unwrap()["id"].as_str().unwrap());
    }
    seen.sort();
    assert_eq!(seen, words);
}

#[tokio::test]
async fn an_example_is_found_under_its_own_tenant_only() {
    let fixture = Fixture::new(None);
    import(&fixture, "a", json!([{"request": "alpha", "answer": "one"}])).await;
    import(&fixture, "b", json!([{"request": "bravo", "answer": "two"}])).await;
    let (_, page) = fixture.call(Method::GET, "/examples?tenant=a", None).await;
    let id = page["data"][0]["id"].as_str().unwrap().to_owned();
    for method in [Method::GET, Method::DELETE] {
        let (status, _) = fixture.call(method, &format!("/examples/{id}?tenant=b"), None).await;
        assert_eq!(status, StatusCode::NOT_FOUND);
    }
    let patch = json!({"answer": "ONE", "quality": 0.75, "replayed": true});
    let (status, body) = fixture.call(Method::PATCH, &format!("/examples/{id}?tenant=a"), Some(patch)).await;
    assert_eq!(status, StatusCode::OK, "{body}");
    assert_eq!(
        (&body["answer"], &body["quality"], &body["replays"]),
        (&json!("ONE"), &json!(0.75), &json!(1))
    );
    let (status, _) = fixture.call(Method::DELETE, &format!("/examples/{id}?tenant=a"), None).await;
    assert_eq!(status, StatusCode::OK);
    assert!(listed(&fixture, "tenant=a").await.is_empty());
    assert_eq!(listed(&fixture, "tenant=b").await, ["bravo"]);
}

#[tokio::test]
async fn clearing_a_tenant_leaves_the_others() {
    let fixture = Fixture::new(None);
    import(&fixture, "a", json!([{"request": "alpha", "answer": "one"}])).await;
    import(&fixture, "b", json!([{"request": "bravo", "answer": "two"}])).await;
    let (_, body) = fixture.call(Method::DELETE, "/examples?tenant=a", None).await;
    assert_eq!(body["deleted"], 1);
    assert!(listed(&fixture, "tenant=a").await.is_empty());
    assert_eq!(listed(&fixture, "tenant=b").await.len(), 1);
    let (status, _) = fixture.call(Method::DELETE, "/examples", None).await;
    assert_eq!(status, StatusCode::BAD_REQUEST, "no tenant is not every tenant");
}

#[tokio::test]
async fn to_ask_for_a_tenant_does_not_make_it() {
    let fixture = Fixture::new(None);
    assert!(listed(&fixture, "tenant=nobody").await.is_empty());
    assert!(fixture.app.cache().unwrap().tenants().is_empty());
    let (status, body) = fixture.call(Method::GET, "/examples?tenant=a/b", None).await;
    assert_eq!((status, &body["error"]["param"]), (StatusCode::BAD_REQUEST, &json!("tenant")));
}

#[tokio::test]
async fn the_second_job_is_sent_away_until_the_first_is_done() {
    let fixture = Fixture::new(None);
    let take = |holder: &str| {
        let body = json!({"holder": holder, "ttl_s": 30});
        fixture.raw(Method::POST, "/replay/lease", &[], LOCAL, Some(body))
    };
    let first = take("first").await;
    assert_eq!(first.status(), StatusCode::CREATED);
    let lease = read(first).await["lease"].as_str().unwrap().to_owned();
    let second = take("second").await;
    assert_eq!(second.status(), StatusCode::CONFLICT);
    assert_eq!(second.headers()[RETRY_AFTER], "30");
    let (status, body) = fixture.call(Method::PUT, &format!("/replay/lease/{lease}"), None).await;
    assert_eq!((status, &body["expires_in_s"]), (StatusCode::OK, &json!(30)));
    let (status, _) = fixture.call(Method::DELETE, &format!("/replay/lease/{lease}"), None).await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(take("second").await.status(), StatusCode::CREATED);
}

#[tokio::test]
async fn a_run_report_is_kept_as_it_came() {
    let fixture = Fixture::new(None);
    let report = json!({"stopped_because": "budget", "improved": [], "tokens_spent": 12});
    let (status, _) = fixture.call(Method::POST, "/replay/runs", Some(report.clone())).await;
    assert_eq!(status, StatusCode::CREATED);
    let (_, runs) = fixture.call(Method::GET, "/replay/runs", None).await;
    assert_eq!(runs["data"][0]["report"], report);
}

#[tokio::test]
async fn faults_come_in_openais_shape() {
    let fixture = Fixture::new(None);
    for (method, path, body, status) in [
        (Method::GET, "/nowhere", None, 404),
        (Method::GET, "/router/decisions/none", None, 404),
        (Method::GET, "/examples?tenant=t&order=best", None, 400),
        (Method::GET, "/examples?tenant=t&limti=1", None, 400),
        (Method::PUT, "/router/policy", Some(json!({"polcy": "bandit"})), 400),
        (Method::POST, "/replay/lease", Some(json!([])), 400),
        (Method::POST, "/state", None, 405),
    ] {
        let (found, answer) = fixture.call(method, path, body).await;
        assert_eq!(found.as_u16(), status, "{path}: {answer}");
        assert!(answer["error"]["message"].is_string(), "{path}: {answer}");
    }
}

#[tokio::test]
async fn the_overview_is_of_the_requests_there_were() {
    let fixture = Fixture::new(None);
    for n in 1..=4 {
        fixture.app.decisions.add(record(&format!("req_{n}"), f64::from(n)));
    }
    let (_, state) = fixture.call(Method::GET, "/state", None).await;
    assert_eq!((&state["latency"]["window"], &state["latency"]["total_ms"]["p50"]), (&json!(4), &json!(2.0)));
    assert_eq!(state["recent"][0]["request_id"], "req_4");
    assert_eq!(state["pool"]["tiers"][0]["state"], "failed");
    assert_eq!(state["router"]["policy"], "bandit");
    let (_, whole) = fixture.call(Method::GET, "/router/decisions/req_2", None).await;
    assert_eq!(whole["timings"]["total_ms"], 2.0);
}

#[tokio::test]
async fn a_utility_model_is_installed_refused_and_set_back() {
    let fixture = Fixture::new(None);
    let model = |dimensions: usize| {
        json!({"dimensions": dimensions, "projection": vec![0.0; dimensions], "hidden": vec![0.0; 10], "hidden_bias": [0.0],
            "output": [0.0], "direct": vec![0.0; 8], "bias": 1.0, "calibration": [[0.0, 0.0], [1.0, 1.0]], "tau": 0.25,
            "trained_on": "a test"})
    };
    let put = async |path: &str, body: Value| fixture.call(Method::PUT, path, Some(body)).await;
    let (status, told) = put("/utility", json!({"dimensions": 512})).await;
    assert_eq!((status, &told["error"]["param"]), (StatusCode::BAD_REQUEST, &json!("model")));
    assert!(!put("/utility", model(511)).await.0.is_success());
    assert_eq!(fixture.call(Method::GET, "/utility", None).await.1["active"], 0);
    assert_eq!(put("/utility", model(512)).await.1, json!({"active": 1, "previous": 0}));
    let (_, versions) = fixture.call(Method::GET, "/utility", None).await;
    assert_eq!((&versions["active"], &versions["data"][0]["trained_on"]), (&json!(1), &json!("a test")));
    assert_eq!(put("/utility/active", json!({"version": 9})).await.0, StatusCode::NOT_FOUND);
    assert_eq!(put("/utility/active", json!({"version": 0})).await.1, json!({"active": 0, "previous": 1}));
}

#[tokio::test]
async fn only_rated_answers_with_an_embedding_teach() {
    let fixture = Fixture::new(None);
    let rated = |id: &str, rating| {
        let embedding = reprise_cache::UnitVector::try_new(vec![1.0, 1.0]).unwrap();
        crate::decisions::DecisionRecord { rating, embedding: Some(embedding), ..record(id, 1.0) }
    };
    fixture.app.decisions.add(rated("rated", Some(0.25)));
    fixture.app.decisions.add(rated("unrated", None));
    fixture.app.decisions.add(crate::decisions::DecisionRecord { rating: Some(1.0), ..record("late", 1.0) });
    let (status, outcomes) = fixture.call(Method::GET, "/outcomes", None).await;
    assert_eq!(status, StatusCode::OK, "{outcomes}");
    let rows = outcomes["data"].as_array().unwrap();
    assert_eq!(rows.len(), 1, "{outcomes}");
    assert_eq!((&rows[0]["request_id"], &rows[0]["quality"]), (&json!("rated"), &json!(0.25)));
}
