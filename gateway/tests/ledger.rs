//! The ledger through kills at any moment and a full disk: never short of what was answered.
#![cfg(test)]

mod support;

use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures::StreamExt as _;
use rand::{Rng as _, SeedableRng as _};
use reqwest::{Client, Method};
use serde_json::Value;
use support::faults::tell;
use support::upstream::{Script, Upstream};
use support::{CAPITAL, Gateway, Setup, ask, ask_streamed};
use tempfile::TempDir;

/// Of every answer of the upstream.
const TOKENS: u64 = 10;
const CLIENTS: usize = 8;

/// Kills: REPRISE_KILLS of them, a few in the checks; `gateway/bench/ledger-kills` makes 200.
#[tokio::test]
async fn killed_at_any_moment_it_is_never_short() {
    let kills: u64 = std::env::var("REPRISE_KILLS").ok().and_then(|kills| kills.parse().ok()).unwrap_or(8);
    let upstream = Upstream::start(Script::Answer("Berlin it is.")).await;
    // Small files, so that some kills meet the beginning of a new one.
    let setup = Setup::empty().remote("large", 1.0, &upstream.base_url).cache("enabled = false");
    let setup = setup.ledger("file_bytes = 20000").resilience("breaker_failures = 0");
    let home = Arc::new(TempDir::new().expect("a temporary folder"));
    let mut random = rand::rngs::SmallRng::seed_from_u64(7);
    let (mut sent, mut most_over, mut answers) = (0, 0, 0);
    for kill in 0..kills {
        let mut gateway = Gateway::start_in(setup.clone(), Arc::clone(&home)).await;
        let known = gateway.used_tokens("default").await;
        assert!(known >= sent, "after kill {kill}: {known} known, {sent} sent");
        most_over = most_over.max(known - sent);
        // What a kill made the ledger count on top stays counted.
        sent = known;
        let whole = Arc::new(AtomicU64::new(0));
        let clients: Vec<_> = (0..CLIENTS)
            .map(|client| tokio::spawn(keep_asking(gateway.url(""), client % 2 == 0, Arc::clone(&whole))))
            .collect();
        // After so many answers, and at any moment of the next.
        let (after, moment) =
            (random.random_range(0..60), Duration::from_micros(random.random_range(0..10_000)));
        while whole.load(Ordering::SeqCst) < after {
            assert!(gateway.exited().is_none(), "the gateway ended by itself");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        tokio::time::sleep(moment).await;
        gateway.kill();
        for client in clients {
            client.await.expect("a client ends");
        }
        let whole = whole.load(Ordering::SeqCst);
        answers += whole;
        sent += TOKENS * whole;
    }
    let gateway = Gateway::start_in(setup, home).await;
    let known = gateway.used_tokens("default").await;
    assert!(known >= sent, "at the end: {known} known, {sent} sent");
    assert!(answers > 0, "the kills were to meet work");
    let reserved = gateway.used("default").await["reserved_tokens"].clone();
    assert_eq!(reserved, 0, "what was cut off is settled");
    println!(
        "{kills} kills, {answers} whole answers: never short; most counted on top by one kill: {most_over} tokens"
    );
    tell(
        &format!("kill -9 at {kills} random moments, {CLIENTS} clients"),
        &format!("connection reset; {answers} answers came whole"),
        &format!(
            "no answer's usage; at most {most_over} tokens of reservations were counted on top by one kill"
        ),
    );
}

/// Counts an answer once its last byte is there, and ends with the gateway.
async fn keep_asking(url: String, stream: bool, whole: Arc<AtomicU64>) {
    let client = Client::builder().no_proxy().build().expect("a client");
    let mut body = if stream { ask_streamed("large", CAPITAL) } else { ask("large", CAPITAL) };
    body["max_tokens"] = 16.into();
    loop {
        let request = client.post(format!("{url}/v1/chat/completions")).json(&body);
        let Ok(response) = request.send().await else { return };
        assert!(response.status().is_success(), "{response:?}");
        let Ok(text) = response.text().await else { return };
        let done =
            if stream { text.contains("[DONE]") } else { serde_json::from_str::<Value>(&text).is_ok() };
        if !done {
            return;
        }
        whole.fetch_add(1, Ordering::SeqCst);
    }
}

#[tokio::test]
async fn a_full_disk_refuses_those_whose_use_is_limited_and_forgets_nothing() {
    let upstream = Upstream::start(Script::Answer("Berlin it is.")).await;
    let setup = Setup::empty().remote("large", 1.0, &upstream.base_url).cache("enabled = false").admin();
    let setup = setup.limited_key("a", "ka", "budget_tokens = 100000000").key("b", "kb");
    let home = Arc::new(TempDir::new().expect("a temporary folder"));
    let mut gateway =
        Gateway::spawn_under(&["prlimit", "--fsize=12000:unlimited"], setup.clone(), Arc::clone(&home))
            .ready()
            .await;
    let client = Client::builder().no_proxy().build().expect("a client");
    let url = gateway.url("/v1/chat/completions");
    let post = async |key: &str| {
        let request = client.post(&url).bearer_auth(key).json(&ask("large", CAPITAL));
        support::reply::Reply::read(request.send().await.expect("an answer")).await
    };
    let mut answered = 0;
    let refused = loop {
        let reply = post("ka").await;
        if !reply.status.is_success() {
            break reply;
        }
        answered += 1;
        assert!(answered < 1000, "the limit of the file is never reached");
    };
    refused.assert_error(503, Some("ledger_unavailable"));
    assert!(refused.header("retry-after").parse::<u64>().is_ok());
    assert!(post("kb").await.status.is_success(), "nothing limits it: it is answered, and counted");
    assert!(gateway.metrics().await.sum("reprise_ledger_unrecorded_total", &[]) > 0.0);
    assert!(gateway.metrics().await.sum("reprise_ledger_failing", &[]) > 0.0);
    support::wait::eventually("the log tells it", || async {
        gateway.log().contains("the ledger cannot be written").then_some(())
    })
    .await;

    // Somebody makes room.
    let pid = gateway.pid().to_string();
    let room = Command::new("prlimit")
        .args(["--pid", &pid, "--fsize=unlimited:unlimited"])
        .status()
        .expect("prlimit");
    assert!(room.success());
    gateway.until("reprise_ledger_failing", &[], |failing| failing == 0.0).await;
    assert!(post("ka").await.status.is_success());
    answered += 1;
    gateway.kill();
    let gateway = Gateway::start_in(setup, home).await;
    assert!(gateway.used_tokens("a").await >= TOKENS * answered);
    tell(
        "disk full",
        "503 `ledger_unavailable` with Retry-After for a key with a budget; 200 for a key without limits",
        "nothing of what was answered to the limited key; unlimited use is recorded once there is room again",
    );
}

/// A stream's first words are only sent once a crash would not forget them.
#[tokio::test]
async fn a_stream_that_a_kill_cuts_off_is_counted() {
    let upstream = Upstream::start(Script::Stall("Once upon a time")).await;
    let setup = Setup::empty().remote("large", 1.0, &upstream.base_url).cache("enabled = false");
    let mut gateway = Gateway::start(setup.clone()).await;
    let request = gateway.request(Method::POST, "/v1/chat/completions").json(&ask_streamed("large", CAPITAL));
    let mut stream = request.send().await.expect("a stream").bytes_stream();
    stream.next().await.expect("a chunk").expect("bytes");
    gateway.kill();
    let gateway = Gateway::start_in(setup, gateway.home()).await;
    let used = gateway.used("default").await;
    assert!(
        used["ever"]["prompt_tokens"].as_u64().is_some_and(|tokens| tokens >= 64),
        "all that was reserved: {used}"
    );
}
