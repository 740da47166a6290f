//! A client that goes away takes its work with it, at every stage.
#![cfg(test)]

mod support;

use std::time::Duration;

use futures::StreamExt as _;
use reqwest::Method;
use support::upstream::{Script, Upstream};
use support::wait::eventually;
use support::{CAPITAL, Gateway, Setup, ask, ask_for_long, ask_streamed};

const CHAT: &str = "/v1/chat/completions";

#[tokio::test]
async fn a_stream_that_is_dropped_frees_its_sequence() {
    let gateway = Gateway::start(Setup::small()).await;
    let mut body = ask_for_long("small");
    body["stream"] = true.into();
    let response = gateway.request(Method::POST, CHAT).json(&body).send().await.expect("a stream");
    let mut stream = response.bytes_stream();
    stream.next().await.expect("a chunk").expect("bytes");
    gateway.until("reprise_tier_running", &[("tier", "small")], |value| value == 1.0).await;
    gateway.until("reprise_open_streams", &[], |value| value == 1.0).await;

    drop(stream);
    gateway.until_idle().await;
    answered(&gateway).await;
}

#[tokio::test]
async fn a_json_request_that_is_dropped_frees_its_sequence() {
    let gateway = Gateway::start(Setup::small()).await;
    let request = gateway.request(Method::POST, CHAT).json(&ask_for_long("small")).send();
    let task = tokio::spawn(request);
    gateway.until("reprise_tier_running", &[("tier", "small")], |value| value == 1.0).await;

    task.abort();
    gateway.until_idle().await;
    answered(&gateway).await;
}

#[tokio::test]
async fn requests_that_wait_in_the_queue_leave_it() {
    let gateway = Gateway::start(Setup::small()).await;
    let tasks: Vec<_> = (0..6)
        .map(|_| tokio::spawn(gateway.request(Method::POST, CHAT).json(&ask_for_long("small")).send()))
        .collect();
    eventually("all are at the tier", || async {
        let metrics = gateway.metrics().await;
        let there = metrics.sum("reprise_tier_running", &[]) + metrics.sum("reprise_tier_queue_depth", &[]);
        (there >= 6.0).then_some(())
    })
    .await;
    for task in tasks {
        task.abort();
    }
    gateway.until_idle().await;
    answered(&gateway).await;
}

#[tokio::test]
async fn a_remote_tier_is_let_go_as_well() {
    let upstream = Upstream::start(Script::Stall("Once upon")).await;
    let gateway = Gateway::start(Setup::empty().remote("large", 1.0, &upstream.base_url)).await;
    for body in [ask("large", CAPITAL), ask_streamed("large", CAPITAL)] {
        let before = upstream.requests();
        let task = tokio::spawn(gateway.request(Method::POST, CHAT).json(&body).send());
        eventually("the request reaches the upstream", || async {
            (upstream.requests() > before).then_some(())
        })
        .await;
        // In the middle of the answer, if there is one by now.
        tokio::time::sleep(Duration::from_millis(200)).await;
        match task.is_finished() {
            true => drop(task.await),
            false => task.abort(),
        }
        eventually("the upstream's stream is closed", || async {
            (upstream.open_streams() == 0).then_some(())
        })
        .await;
        gateway.until_idle().await;
    }
    upstream.play(Script::Answer("Berlin."));
    assert_eq!(gateway.chat(&ask("large", "And of Spain?")).await.text(), "Berlin.");
}

#[tokio::test]
async fn an_interrupted_answer_is_not_remembered() {
    let upstream = Upstream::start(Script::Stall("The capital of Germany is")).await;
    let gateway = Gateway::start(Setup::empty().remote("large", 1.0, &upstream.base_url)).await;
    let response = gateway
        .request(Method::POST, CHAT)
        .json(&ask_streamed("large", CAPITAL))
        .send()
        .await
        .expect("a stream");
    let mut stream = response.bytes_stream();
    stream.next().await.expect("a chunk").expect("bytes");
    drop(stream);
    gateway.until_idle().await;

    upstream.play(Script::Answer("Berlin."));
    let reply = gateway.chat(&ask("large", CAPITAL)).await;
    assert_ne!(reply.cache(), "HIT");
    assert_eq!(reply.text(), "Berlin.");
    let examples = gateway.examples("default", 1).await;
    assert!(examples.iter().all(|example| example["answer"] == "Berlin."), "{examples:#?}");
}

async fn answered(gateway: &Gateway) {
    assert!(gateway.chat(&ask("small", CAPITAL)).await.text().contains("Berlin"));
}
