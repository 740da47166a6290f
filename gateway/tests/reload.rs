//! The configuration changes while the gateway runs.
#![cfg(test)]

mod support;

use reqwest::Method;
use support::faults::tell;
use support::reply::Reply;
use support::upstream::{Script, Upstream};
use support::wait::eventually;
use support::{CAPITAL, Gateway, Setup, ask};

#[tokio::test]
async fn a_new_file_takes_effect_a_wrong_one_does_not_and_no_request_is_dropped() {
    let upstream = Upstream::start(Script::Held("Berlin.")).await;
    let setup = Setup::empty().remote("large", 1.0, &upstream.base_url).cache("enabled = false").admin();
    let before = setup.clone().key("a", "ka");
    let gateway = Gateway::start(before.clone()).await.with_key("ka");
    let held = tokio::spawn(
        gateway.request(Method::POST, "/v1/chat/completions").json(&ask("large", CAPITAL)).send(),
    );
    eventually("it is at the upstream", || async { (upstream.requests() == 1).then_some(()) }).await;

    // Half a file, as a slow writer leaves it, and one that does not hold.
    for wrong in ["[server\nmax_body", "[[auth.keys]]\nname = \"x\"\ntenant = \"b\"\nkey_sha256 = \"abc\"\n"]
    {
        let failed = gateway.metrics().await.sum("reprise_config_reloads_total", &[("result", "failed")]);
        gateway.rewrite(wrong);
        gateway.until("reprise_config_reloads_total", &[("result", "failed")], |count| count > failed).await;
        assert!(gateway.get("/v1/models").await.status.is_success(), "the old one is in force");
    }
    assert!(gateway.log().contains("does not hold"), "{}", gateway.log());
    assert!(gateway.log().contains("auth.keys[0].key_sha256"), "it names the key: {}", gateway.log());

    let after = setup.key("b", "kb").server("max_body_bytes = 300\nmax_concurrent_requests = 7");
    gateway.rewrite(&after.toml());
    gateway.until("reprise_config_reloads_total", &[("result", "ok")], |count| count > 0.0).await;
    gateway.get("/v1/models").await.assert_error(401, None);
    let gateway = gateway.with_key("kb");
    assert!(gateway.get("/v1/models").await.status.is_success());
    gateway.chat(&ask("large", &"x".repeat(400))).await.assert_error(413, None);
    assert!(
        gateway.log().contains("server.max_concurrent_requests"),
        "it waits for a restart: {}",
        gateway.log()
    );

    // What began under the old configuration ends as if nothing had happened.
    upstream.release();
    let reply = Reply::read(held.await.expect("it ends").expect("an answer")).await;
    assert_eq!(reply.text(), "Berlin.");
    tell(
        "configuration with an error, twice, then a good one, while a request is under way",
        "200, its answer; other requests as before, then under the new keys",
        "nothing; the log names the key that is wrong",
    );
}
