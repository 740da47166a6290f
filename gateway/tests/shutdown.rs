//! SIGTERM: what was begun is finished, what was learned is kept, and then it ends.
#![cfg(test)]

mod support;

use futures::StreamExt as _;
use reqwest::Method;
use support::reply::Reply;
use support::wait::eventually;
use support::{CAPITAL, Gateway, Setup, ask};

#[tokio::test]
async fn a_running_stream_is_drained() {
    let mut gateway = Gateway::start(Setup::small()).await;
    assert!(gateway.chat(&ask("auto", CAPITAL)).await.status.is_success());
    gateway.examples("default", 1).await;

    let mut body = ask("small", "Count from one to fifty in English words.");
    body["stream"] = true.into();
    body["max_tokens"] = 150.into();
    let response =
        gateway.request(Method::POST, "/v1/chat/completions").json(&body).send().await.expect("a stream");
    let headers = response.headers().clone();
    let status = response.status();
    let mut stream = response.bytes_stream();
    let mut bytes = stream.next().await.expect("a chunk").expect("bytes").to_vec();

    gateway.terminate();
    // Not ready for new work, while the old is finished.
    let url = gateway.url("/readyz");
    eventually("new requests are turned away", || async {
        match reqwest::get(&url).await {
            Ok(response) => (!response.status().is_success()).then_some(()),
            Err(_) => Some(()),
        }
    })
    .await;
    while let Some(part) = stream.next().await {
        bytes.extend_from_slice(&part.expect("the stream is not cut"));
    }
    let reply = Reply { status, headers, body: String::from_utf8(bytes).expect("UTF-8") };
    let last = reply
        .chunks()
        .iter()
        .filter_map(|chunk| chunk["choices"][0]["finish_reason"].as_str().map(str::to_owned))
        .next_back();
    assert!(last.is_some(), "the stream came to its end: {}", reply.body);

    assert!(gateway.until_exited().await.success(), "{}", gateway.log());
    let again = Gateway::start_in(gateway.setup(), gateway.home()).await;
    assert_eq!(again.chat(&ask("auto", CAPITAL)).await.cache(), "HIT", "the store was flushed");
}

#[tokio::test]
async fn an_idle_gateway_ends_at_once() {
    let mut gateway = Gateway::start(Setup::small()).await;
    // An idle connection that is kept alive holds nothing up.
    assert!(gateway.get("/livez").await.status.is_success());
    gateway.terminate();
    assert!(gateway.until_exited().await.success());
    assert!(!gateway.log().contains("panicked"), "{}", gateway.log());
}

#[tokio::test]
async fn a_client_that_never_ends_does_not_hold_it_for_ever() {
    let mut gateway = Gateway::start(Setup::small().server("drain_timeout_s = 1")).await;
    let story = tokio::spawn(
        gateway.request(Method::POST, "/v1/chat/completions").json(&support::ask_for_long("small")).send(),
    );
    gateway.until("reprise_tier_running", &[], |value| value == 1.0).await;
    gateway.terminate();
    gateway.until_exited().await;
    let _ = story.await.expect("the task ends");
}
