//! A remote tier that is down, refuses, talks nonsense or dies in mid-sentence.
#![cfg(test)]

mod support;

use std::time::Duration;

use support::upstream::{Script, Upstream};
use support::{CAPITAL, Gateway, Setup, ask, ask_streamed};
use tokio::time::timeout;

/// Every routed request wants the large tier, which is remote; the small one is its fallback.
async fn prefers_large(upstream: &Upstream) -> Gateway {
    let setup = Setup::small().remote("large", 1.0, &upstream.base_url).router("policy = \"large-plain\"");
    Gateway::start(setup).await
}

#[tokio::test]
async fn a_healthy_upstream_answers() {
    let upstream = Upstream::start(Script::Answer("It is Berlin.")).await;
    let gateway = prefers_large(&upstream).await;
    let reply = gateway.chat(&ask("auto", CAPITAL)).await;
    assert_eq!((reply.text().as_str(), reply.header("x-reprise-tier")), ("It is Berlin.", "large"));
    assert_eq!(reply.json()["usage"]["total_tokens"], 10);
    assert_eq!(upstream.last()["model"], "upstream-model", "the upstream's own name for its model");
    assert_eq!(upstream.last()["temperature"], 0);

    let streamed = gateway.chat_with(&ask_streamed("auto", CAPITAL), &[("x-reprise-cache", "off")]).await;
    assert_eq!(streamed.streamed_text(), "It is Berlin.");
    assert_eq!(streamed.chunks().last().expect("a chunk")["usage"]["total_tokens"], 10);
}

#[tokio::test]
async fn what_fails_before_the_first_word_falls_back() {
    let upstream = Upstream::start(Script::Answer("It is Berlin.")).await;
    let gateway = prefers_large(&upstream).await;
    let failures = [
        Script::Status(500, r#"{"error":{"message":"boom","type":"server_error","param":null,"code":null}}"#),
        Script::Status(503, "not json at all"),
        Script::Status(
            429,
            r#"{"error":{"message":"slow down","type":"rate_limit_error","param":null,"code":null}}"#,
        ),
        Script::Status(
            401,
            r#"{"error":{"message":"bad key","type":"invalid_request_error","param":null,"code":"invalid_api_key"}}"#,
        ),
        Script::Garbage,
    ];
    for failure in failures {
        upstream.play(failure.clone());
        for body in [ask("auto", CAPITAL), ask_streamed("auto", CAPITAL)] {
            let before = upstream.requests();
            let reply = gateway.chat_with(&body, &[("x-reprise-cache", "off")]).await;
            assert!(reply.status.is_success(), "{failure:?}: {reply:#?}");
            assert_eq!(reply.header("x-reprise-tier"), "small", "{failure:?}");
            assert!(
                upstream.requests() > before || failure_is_remembered(&gateway).await,
                "{failure:?}: the large tier was tried"
            );
        }
        // A tier that is named is pinned: the client learns that it failed, and nothing of the upstream's page.
        let pinned = gateway.chat_with(&ask("large", CAPITAL), &[("x-reprise-cache", "off")]).await;
        let status = pinned.status.as_u16();
        assert!([429, 500, 502, 503].contains(&status), "{failure:?}: {pinned:#?}");
        pinned.assert_error(status, None);
        assert!(!pinned.body.contains("<html>"), "{}", pinned.body);
    }
    let metrics = gateway.metrics().await;
    assert!(metrics.sum("reprise_tier_errors_total", &[("tier", "large")]) > 0.0);
    assert_eq!(metrics.sum("reprise_panics_total", &[]), 0.0);
    gateway.until_idle().await;
}

#[tokio::test]
async fn a_dead_upstream_falls_back_and_is_found_again() {
    let upstream = Upstream::start(Script::Answer("It is Berlin.")).await;
    let gateway = prefers_large(&upstream).await;
    upstream.stop();
    // Connections are refused once the server's task has really ended.
    support::wait::eventually("the upstream is gone", || async {
        let address = upstream.base_url.trim_start_matches("http://").trim_end_matches("/v1").to_owned();
        tokio::net::TcpStream::connect(address).await.is_err().then_some(())
    })
    .await;
    for body in [ask("auto", CAPITAL), ask_streamed("auto", CAPITAL)] {
        let reply = gateway.chat_with(&body, &[("x-reprise-cache", "off")]).await;
        assert_eq!(reply.header("x-reprise-tier"), "small", "{reply:#?}");
    }
    let pinned = gateway.chat(&ask("large", CAPITAL)).await;
    assert!([502, 503].contains(&pinned.status.as_u16()), "{pinned:#?}");
    assert!(gateway.get("/readyz").await.status.is_success(), "the small tier is ready, so the gateway is");
}

#[tokio::test]
async fn a_stream_that_dies_ends_with_an_error_and_not_as_if_whole() {
    let upstream = Upstream::start(Script::DieMidStream("The capital is ")).await;
    let gateway = prefers_large(&upstream).await;

    // The first words are out: no other tier can take over, and the client must not take the half for the whole.
    let request =
        gateway.request(reqwest::Method::POST, "/v1/chat/completions").json(&ask_streamed("large", CAPITAL));
    let response = request.send().await.expect("a stream");
    assert!(response.status().is_success());
    let body = timeout(Duration::from_secs(60), response.text()).await.expect("the stream ends");
    match body {
        Ok(text) => {
            assert!(text.contains("\"error\""), "an error event ends it: {text}");
            assert!(!text.contains("\"finish_reason\":\"stop\""), "{text}");
        }
        Err(error) => assert!(error.is_body() || error.is_decode(), "{error}"),
    }

    // As JSON nothing is out yet: a fallback, or an error; never half an answer.
    let reply = gateway.chat_with(&ask("auto", CAPITAL), &[("x-reprise-cache", "off")]).await;
    if reply.status.is_success() {
        assert_eq!(reply.header("x-reprise-tier"), "small", "{reply:#?}");
    } else {
        reply.assert_error(reply.status.as_u16(), None);
    }

    upstream.play(Script::Answer("It is Berlin."));
    let again = gateway.chat(&ask("large", CAPITAL)).await;
    assert_ne!(again.cache(), "HIT", "the half answer was not remembered");
    assert_eq!(again.text(), "It is Berlin.");
    gateway.until_idle().await;
}

#[tokio::test]
async fn a_request_that_the_upstream_refuses_is_the_clients_fault() {
    let refusal = r#"{"error":{"message":"temperature is too hot","type":"invalid_request_error","param":"temperature","code":null}}"#;
    let upstream = Upstream::start(Script::Status(400, refusal)).await;
    let gateway = prefers_large(&upstream).await;
    let reply = gateway.chat(&ask("large", CAPITAL)).await;
    let error = reply.assert_error(400, None);
    assert!(error["message"].as_str().is_some_and(|message| message.contains("too hot")), "{error}");
}

/// A port that nobody listens on: a remote tier there must not make the gateway look ready while the local one loads.
#[tokio::test]
async fn a_dead_remote_tier_makes_nothing_ready() {
    let setup = Setup::small().remote("large", 1.0, "http://127.0.0.1:1/v1");
    let home = std::sync::Arc::new(tempfile::TempDir::new().expect("a temporary folder"));
    let gateway = Gateway::spawn(setup, home);
    let told = support::wait::eventually("an answer to /readyz that is final", || async {
        let response = gateway.request(reqwest::Method::GET, "/readyz").send().await.ok()?;
        let (ready, told) =
            (response.status().is_success(), response.json::<serde_json::Value>().await.ok()?);
        let state = |name: &str| {
            let tiers = told["tiers"].as_array().expect("a list of tiers");
            tiers.iter().find(|tier| tier["name"] == name).expect("the tier")["state"].clone()
        };
        assert_ne!(state("large"), "ready", "{told}");
        assert!(!ready || state("small") == "ready", "{told}");
        (ready && state("large") == "failed").then_some(told)
    })
    .await;
    assert!(told.to_string().contains("cannot be reached"), "{told}");
    let reply = gateway.chat(&ask("auto", CAPITAL)).await;
    assert_eq!(reply.header("x-reprise-tier"), "small", "{reply:#?}");
}

/// True once the gateway knows that the tier fails and spares it the attempt.
async fn failure_is_remembered(gateway: &Gateway) -> bool {
    gateway.metrics().await.sum("reprise_tier_ready", &[("tier", "large")]) == 0.0
}
