//! Virtual keys: made, used, rotated and revoked while the gateway runs, and not lost by a crash.
#![cfg(test)]

mod support;

use std::process::Command;
use std::sync::Arc;

use reqwest::Method;
use serde_json::{Value, json};
use support::setup::ADMIN_KEY;
use support::upstream::{Script, Upstream};
use support::{CAPITAL, Gateway, Setup, ask};

fn setup(upstream: &Upstream) -> Setup {
    let tiers =
        Setup::empty().remote("small", 0.1, &upstream.base_url).remote("large", 1.0, &upstream.base_url);
    tiers.cache("enabled = false").admin()
}

async fn admin(gateway: &Gateway, method: Method, path: &str, body: Option<Value>) -> support::reply::Reply {
    let request = reqwest::Client::new()
        .request(method, gateway.url(&format!("/admin/v1{path}")))
        .bearer_auth(ADMIN_KEY);
    let request = match body {
        Some(body) => request.json(&body),
        None => request,
    };
    support::reply::Reply::read(request.send().await.expect("an answer")).await
}

async fn status_with(gateway: &Gateway, key: &str, model: &str) -> u16 {
    let request = reqwest::Client::new().post(gateway.url("/v1/chat/completions")).bearer_auth(key);
    request.json(&ask(model, CAPITAL)).send().await.expect("an answer").status().as_u16()
}

#[tokio::test]
async fn a_key_lives_from_its_making_to_its_revocation_through_crashes() {
    let upstream = Upstream::start(Script::Answer("Berlin.")).await;
    let mut gateway = Gateway::start(setup(&upstream)).await;
    let made = admin(&gateway, Method::POST, "/keys", Some(json!({"name": "search", "tenant": "a"}))).await;
    assert_eq!(made.status.as_u16(), 201, "{made:#?}");
    assert_eq!(made.header("cache-control"), "private, no-store");
    let made = made.value();
    let (id, first) = (
        made["id"].as_str().expect("an id").to_owned(),
        made["secret"].as_str().expect("a secret").to_owned(),
    );
    assert!(first.starts_with("sk-reprise-") && made.get("sha256").is_none(), "{made}");
    assert_eq!(status_with(&gateway, &first, "auto").await, 200);
    assert_eq!(status_with(&gateway, "sk-reprise-guess", "auto").await, 401);
    assert_eq!(
        gateway.get("/v1/models").await.status.as_u16(),
        401,
        "now that there is a key nobody goes without"
    );

    gateway.kill();
    let home = gateway.home();
    let mut gateway = Gateway::start_in(gateway.setup(), Arc::clone(&home)).await;
    assert_eq!(status_with(&gateway, &first, "auto").await, 200);
    let rotated =
        admin(&gateway, Method::POST, &format!("/keys/{id}/rotate"), Some(json!({"grace_s": 3600})))
            .await
            .json();
    let second = rotated["secret"].as_str().expect("a secret").to_owned();
    gateway.kill();
    let mut gateway = Gateway::start_in(gateway.setup(), Arc::clone(&home)).await;
    assert_eq!(
        [status_with(&gateway, &first, "auto").await, status_with(&gateway, &second, "auto").await],
        [200, 200]
    );

    let revoked = admin(&gateway, Method::DELETE, &format!("/keys/{id}"), None).await.json();
    assert_eq!(revoked["state"], "revoked");
    gateway.kill();
    let gateway = Gateway::start_in(gateway.setup(), home).await;
    assert_eq!(
        [status_with(&gateway, &first, "auto").await, status_with(&gateway, &second, "auto").await],
        [401, 401]
    );
    let listed = admin(&gateway, Method::GET, "/keys?tenant=a", None).await;
    assert_eq!(listed.json()["data"].as_array().map(Vec::len), Some(1));
    for secret in [&first, &second] {
        assert!(!listed.body.contains(secret.as_str()) && !gateway.log().contains(secret.as_str()));
        let files = std::fs::read_dir(gateway.data_dir()).expect("the data folder");
        for file in files.flatten().filter(|file| file.path().is_file()) {
            let text = std::fs::read(file.path()).expect("a file");
            let told = text.windows(secret.len()).any(|part| part == secret.as_bytes());
            assert!(!told, "{} holds a secret", file.path().display());
        }
    }
    let again = admin(&gateway, Method::DELETE, &format!("/keys/{id}"), None).await;
    again.assert_error(409, Some("key_revoked"));
    let audit = std::fs::read_to_string(gateway.data_dir().join("admin-audit.jsonl")).expect("the audit log");
    for (method, target) in [("POST", "/admin/v1/keys"), ("DELETE", &format!("/admin/v1/keys/{id}"))] {
        let line = |line: &str| line.contains(method) && line.contains(&format!("\"{target}\""));
        assert!(audit.lines().any(line), "{method} {target} in {audit}");
    }
}

#[tokio::test]
async fn a_key_reaches_only_its_tiers() {
    let upstream = Upstream::start(Script::Answer("Berlin.")).await;
    let gateway = Gateway::start(setup(&upstream).router("policy = \"large-plain\"")).await;
    let wrong = json!({"name": "n", "tenant": "a", "tiers": ["middle"]});
    admin(&gateway, Method::POST, "/keys", Some(wrong)).await.assert_names("tiers");
    let body = json!({"name": "n", "tenant": "a", "tiers": ["small"]});
    let secret = admin(&gateway, Method::POST, "/keys", Some(body)).await.value()["secret"]
        .as_str()
        .expect("a secret")
        .to_owned();
    let gateway = gateway.with_key(&secret);
    gateway.chat(&ask("large", CAPITAL)).await.assert_error(404, Some("model_not_found"));
    assert_eq!(gateway.chat(&ask("small", CAPITAL)).await.header("x-reprise-tier"), "small");
    assert_eq!(
        gateway.chat(&ask("auto", CAPITAL)).await.header("x-reprise-tier"),
        "small",
        "not where the policy would go"
    );
    let models = gateway.get("/v1/models").await.json().to_string();
    assert!(models.contains("\"small\"") && !models.contains("\"large\""), "{models}");
    upstream.play(Script::Status(500, "{}"));
    let before = upstream.requests();
    let failed = gateway.chat(&ask("auto", CAPITAL)).await;
    assert!(failed.status.is_server_error(), "no fallback to a tier that is not its own: {failed:#?}");
    assert!(upstream.requests() > before);
    assert_eq!(gateway.metrics().await.sum("reprise_tier_errors_total", &[("tier", "large")]), 0.0);
}

#[tokio::test]
async fn the_command_line_does_the_same() {
    let upstream = Upstream::start(Script::Answer("Berlin.")).await;
    let gateway = Gateway::start(setup(&upstream)).await;
    let url = gateway.url("");
    let run = |arguments: Vec<String>, key: &'static str| {
        let url = url.clone();
        tokio::task::spawn_blocking(move || {
            let mut command = Command::new(env!("CARGO_BIN_EXE_reprise"));
            command.arg("keys").args(&arguments).arg("--gateway").arg(url).env("REPRISE_ADMIN_KEY", key);
            command.output().expect("it runs")
        })
    };
    let words = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
    let made = run(words("create --tenant a --name ci --tier small --requests-per-minute 2"), ADMIN_KEY)
        .await
        .expect("it ends");
    let text = String::from_utf8(made.stdout).expect("text");
    let (first, secret) = text.trim_end().split_once('\n').expect("two lines");
    let key: Value = serde_json::from_str(first).expect("JSON");
    assert_eq!((&key["limits"]["requests_per_minute"], &key["tiers"]), (&json!(2), &json!(["small"])));
    let statuses = [
        status_with(&gateway, secret, "small").await,
        status_with(&gateway, secret, "small").await,
        status_with(&gateway, secret, "small").await,
    ];
    assert_eq!(statuses, [200, 200, 429]);
    let id = key["id"].as_str().expect("an id");
    let usage = run(words(&format!("usage --key {id}")), ADMIN_KEY).await.expect("it ends");
    let usage: Value = serde_json::from_slice(&usage.stdout).expect("JSON");
    assert_eq!(
        usage["ever"],
        json!({"requests": 2, "prompt_tokens": 14, "completion_tokens": 6, "money": 0.0})
    );
    assert!(run(words(&format!("revoke {id}")), ADMIN_KEY).await.expect("it ends").status.success());
    assert_eq!(status_with(&gateway, secret, "small").await, 401);
    let refused = run(words("list"), "wrong").await.expect("it ends");
    assert!(
        !refused.status.success() && String::from_utf8_lossy(&refused.stderr).contains("401"),
        "{refused:?}"
    );
}
