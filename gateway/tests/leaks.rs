//! Requests that cannot be answered, again and again: afterwards no memory is gone and no sequence is left.
#![cfg(test)]

mod support;

use serde_json::json;
use support::{CAPITAL, Gateway, Setup, ask, ask_for_long, ask_streamed};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

const ROUNDS: usize = 6;
const EACH: usize = 8;
/// Over a megabyte, and over the context of any model.
const WORDS: usize = 300_000;

/// What three rounds may leave: the log of decisions until it is full (60 kB a round were seen), connections that have not
/// noticed yet that they are over. If of each round one request of a megabyte stayed, it were more than twice as much.
const SLACK: f64 = 2e6;

#[tokio::test]
async fn a_bad_request_takes_nothing_with_it() {
    let gateway = Gateway::start(Setup::small()).await;
    // Buffers, pools and threads that come with use come in a round that does not count.
    round(&gateway).await;
    let mut allocated = Vec::new();
    for _ in 0..ROUNDS {
        round(&gateway).await;
        gateway.until_idle().await;
        allocated.push(gateway.metrics().await.sum("reprise_allocated_bytes", &[]));
    }
    let least = |rounds: &[f64]| rounds.iter().copied().fold(f64::INFINITY, f64::min);
    let (early, late) = allocated.split_at(ROUNDS / 2);
    assert!(least(late) - least(early) < SLACK, "memory in use after each round: {allocated:?}");

    let metrics = gateway.metrics().await;
    for gauge in ["reprise_tier_running", "reprise_tier_queue_depth", "reprise_open_streams"] {
        assert_eq!(metrics.sum(gauge, &[]), 0.0, "{gauge}");
    }
    assert_eq!(metrics.sum("reprise_panics_total", &[]), 0.0);
    assert!(gateway.chat(&ask("small", CAPITAL)).await.text().contains("Berlin"));
}

/// About 30 MB of requests, none of which is answered. One after the other, so that no peak hides what stays.
async fn round(gateway: &Gateway) {
    let megabyte = "word ".repeat(WORDS);
    let oversized = ask("small", &megabyte);
    for _ in 0..EACH {
        gateway.chat(&oversized).await.assert_error(400, Some("context_length_exceeded"));
    }
    let broken =
        format!("{{\"model\": \"small\", \"messages\": [{{\"role\": \"user\", \"content\": \"{megabyte}");
    for _ in 0..EACH {
        gateway.chat_raw(broken.clone()).await.assert_error(400, None);
    }
    let mut nothing = ask("small", CAPITAL);
    nothing["n"] = json!(0);
    let unknown = ask("gpt-99", CAPITAL);
    for _ in 0..EACH {
        gateway.chat(&nothing).await.assert_names("n");
        gateway.chat(&unknown).await.assert_error(404, Some("model_not_found"));
    }
    // Clients that stop in the middle of their request, and one that leaves in the middle of its answer.
    for _ in 0..EACH {
        let mut client = TcpStream::connect(gateway.address).await.expect("a connection");
        let head = format!(
            "POST /v1/chat/completions HTTP/1.1\r\nhost: {}\r\ncontent-type: application/json\r\ncontent-length: 2000000\r\n\r\n",
            gateway.address
        );
        client.write_all(head.as_bytes()).await.expect("the head is sent");
        client.write_all(&broken.as_bytes()[..1_000_000]).await.expect("half of the body is sent");
    }
    let mut long = ask_streamed("small", CAPITAL);
    long["messages"] = ask_for_long("small")["messages"].clone();
    let request = gateway.request(reqwest::Method::POST, "/v1/chat/completions").json(&long);
    let mut response = request.send().await.expect("a stream");
    response.chunk().await.expect("the stream is read").expect("its first words");
}
