//! Limits and budgets: exact whatever runs at once, told in the headers, and known after a crash.
#![cfg(test)]

mod support;

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Instant;

use futures::StreamExt as _;
use futures::future::join_all;
use reqwest::Method;
use serde_json::{Value, json};
use support::upstream::{Script, Upstream};
use support::wait::eventually;
use support::{CAPITAL, Gateway, Setup, ask, ask_for_long, ask_streamed};

const OFF: [(&str, &str); 1] = [("x-reprise-cache", "off")];

/// One gateway that requests with different keys go to.
async fn started(setup: Setup) -> Gateway {
    Gateway::start(setup.admin()).await
}

/// The real small model counts its prompts itself, and they are more tokens than their text lets expect.
#[tokio::test]
async fn two_hundred_at_once_never_exceed_a_token_limit() {
    const LIMIT: u64 = 900;
    let setup = Setup::small().limited_key("a", "ka", &format!("tokens_per_minute = {LIMIT}"));
    let gateway = started(setup).await.with_key("ka");
    let mut body =
        ask("small", "1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27 28 29 30");
    body["max_tokens"] = 8.into();
    let began = Instant::now();
    let replies = join_all((0..200).map(|_| gateway.chat_with(&body, &OFF))).await;
    let minutes = began.elapsed().as_secs() / 60 + 1;
    let (mut through, mut answered) = (0, 0);
    for reply in &replies {
        match reply.status.as_u16() {
            200 => {
                through += reply.json()["usage"]["total_tokens"].as_u64().expect("a count");
                answered += 1;
            }
            429 => {
                let error = reply.value()["error"].clone();
                if error["code"] == "rate_limit_exceeded" {
                    reply.assert_error(429, Some("rate_limit_exceeded"));
                    assert_eq!(error["type"], "tokens");
                    assert!(
                        reply
                            .header("retry-after")
                            .parse::<u64>()
                            .is_ok_and(|seconds| (1..=61).contains(&seconds))
                    );
                    assert_eq!(reply.header("x-ratelimit-limit-tokens"), LIMIT.to_string());
                }
            }
            other => panic!("{other}: {reply:#?}"),
        }
    }
    assert!(through <= LIMIT * minutes, "{through} tokens in {minutes} min");
    assert!((1..200).contains(&answered), "{answered} answered");
    assert_eq!(gateway.used_tokens("a").await, through, "what clients were told is what the ledger has");
    assert_eq!(gateway.used("a").await["reserved_tokens"], 0);
}

#[tokio::test]
async fn a_budget_holds_to_the_token_and_through_a_crash() {
    let upstream = Upstream::start(Script::Answer("Berlin.")).await;
    // Each answer takes 7 + 3 tokens, and 7 * 2 + 3 * 10 = 44 millionths.
    let tier = "prompt_price = 2.0\ncompletion_price = 10.0\n";
    let remote = format!(
        "name = \"large\"\nbase_url = \"{}\"\nmodel = \"m\"\ncost = 1.0\ncontext_length = 8192\n{tier}",
        upstream.base_url
    );
    let setup = Setup::empty().tier(&remote).cache("enabled = false").resilience("retries = 0");
    let setup = setup
        .limited_key("a", "ka", "budget_tokens = 3000\nbudget_period = \"total\"")
        .limited_key("b", "kb", "budget_money = 0.002\nbudget_period = \"day\"")
        .tenant("c", "budget_tokens = 200")
        .key("c", "kc1")
        .key("c", "kc2");
    let mut gateway = started(setup).await;
    let mut body = ask("large", CAPITAL);
    body["max_tokens"] = 80.into();
    let post = |gateway: &Gateway, key: &str| {
        let request =
            reqwest::Client::new().post(gateway.url("/v1/chat/completions")).bearer_auth(key).json(&body);
        async { support::reply::Reply::read(request.send().await.expect("an answer")).await }
    };
    let mut answered = 0;
    for round in 0..30 {
        // One after the other each reserves at least 80 and gives back what it did not use.
        let reply = post(&gateway, "kb").await;
        if !reply.status.is_success() {
            reply.assert_error(429, Some("insufficient_quota"));
            assert_eq!(reply.header("x-should-retry"), "false");
            assert!(reply.header("retry-after").parse::<u64>().is_ok(), "a day ends: {reply:#?}");
            break;
        }
        answered = round + 1;
    }
    let money = gateway.used("b").await["ever"]["money"].as_f64().expect("an amount");
    assert!(answered > 5 && (money - 44e-6 * f64::from(answered)).abs() < 1e-12, "{money} for {answered}");
    assert!(money <= 0.002, "{money}");

    // All keys of a tenant together.
    let replies = join_all((0..20).map(|n| post(&gateway, if n % 2 == 0 { "kc1" } else { "kc2" }))).await;
    let through = replies.iter().filter(|reply| reply.status.is_success()).count();
    assert!((1..20).contains(&through), "{through}");
    assert_eq!(gateway.used_tokens("c").await, 10 * through as u64);

    let replies = join_all((0..60).map(|_| post(&gateway, "ka"))).await;
    let through = replies.iter().filter(|reply| reply.status.is_success()).count() as u64;
    // A settlement is written a moment after its answer: of one that a kill comes before, all that was reserved counts.
    eventually("all is settled in the ledger", || async { all_is_settled(&gateway).then_some(()) }).await;
    gateway.kill();
    let gateway = Gateway::start_in(gateway.setup(), gateway.home()).await;
    assert_eq!(gateway.used_tokens("a").await, 10 * through);
    assert_eq!(gateway.used_tokens("c").await, 10 * replies_of(&gateway, "c").await);
    let mut left = (3000 - 10 * through) / 10 + 1;
    while post(&gateway, "ka").await.status.is_success() {
        left -= 1;
        assert!(left > 0, "the budget goes on after a crash");
    }
    assert!(gateway.used_tokens("a").await <= 3000);
}

/// In its files, as a gateway that starts now would read them.
fn all_is_settled(gateway: &Gateway) -> bool {
    let mut open = HashSet::new();
    let files = std::fs::read_dir(gateway.data_dir().join("usage")).expect("the ledger's folder");
    let mut files: Vec<_> = files.map(|file| file.expect("an entry").path()).collect();
    files.sort();
    for file in files {
        let text = std::fs::read_to_string(file).expect("a file of the ledger");
        // The last line may be under way.
        for line in text.split_inclusive('\n').filter(|line| line.ends_with('\n')) {
            let (_, record) = line.split_once(' ').expect("a checksum before the record");
            let record: Value = serde_json::from_str(record).expect("a record");
            if let Some(id) = record["reserve"]["id"].as_u64() {
                open.insert(id);
            } else if let Some(id) = record["settle"]["id"].as_u64() {
                open.remove(&id);
            }
        }
    }
    open.is_empty()
}

async fn replies_of(gateway: &Gateway, tenant: &str) -> u64 {
    gateway.used(tenant).await["ever"]["requests"].as_u64().expect("a count")
}

#[tokio::test]
async fn requests_are_counted_and_a_hit_costs_no_tokens() {
    let setup = Setup::small().limited_key("a", "ka", "requests_per_minute = 3\ntokens_per_minute = 5000");
    let gateway = started(setup).await.with_key("ka");
    let began = Instant::now();
    let first = gateway.chat(&ask("small", CAPITAL)).await;
    let told = first.json()["usage"]["total_tokens"].as_u64().expect("a count");
    let hit = gateway.chat(&ask("small", CAPITAL)).await;
    assert_eq!(hit.cache(), "HIT");
    assert_eq!(hit.header("x-ratelimit-limit-requests"), "3");
    if began.elapsed().as_secs() < 60 {
        assert_eq!(hit.header("x-ratelimit-remaining-requests"), "1");
        assert_eq!(hit.header("x-ratelimit-remaining-tokens"), (5000 - told).to_string());
    }
    assert!(hit.header("x-ratelimit-reset-requests").ends_with('s'));
    // Refused before it is counted.
    gateway.chat(&json!({"model": "small"})).await.assert_names("messages");
    assert!(gateway.chat(&ask("small", CAPITAL)).await.status.is_success());
    assert_eq!(gateway.used("a").await["ever"]["requests"], 3);
    assert_eq!(gateway.used_tokens("a").await, told);
    let refused = gateway.chat(&ask("small", CAPITAL)).await;
    if began.elapsed().as_secs() < 60 {
        assert_eq!(refused.assert_error(429, Some("rate_limit_exceeded"))["type"], "requests");
    }
}

#[tokio::test]
async fn who_goes_away_pays_for_what_was_generated() {
    let setup = Setup::small().limited_key("a", "ka", "budget_tokens = 100000");
    let gateway = started(setup).await.with_key("ka");
    let mut body = ask_for_long("small");
    body["stream"] = true.into();
    body["max_tokens"] = 3000.into();
    let request = gateway.request(Method::POST, "/v1/chat/completions").json(&body);
    let mut stream = request.send().await.expect("a stream").bytes_stream();
    let mut chunks = 0;
    while chunks < 20 {
        let bytes = stream.next().await.expect("a chunk").expect("bytes");
        chunks += String::from_utf8_lossy(&bytes).matches("\"content\":").count();
    }
    assert!(gateway.used("a").await["reserved_tokens"].as_u64().is_some_and(|tokens| tokens >= 3000));
    drop(stream);
    let used = eventually("it is settled", || async {
        let used = gateway.used("a").await;
        (used["reserved_tokens"] == 0).then_some(used)
    })
    .await;
    let tokens = used["ever"]["completion_tokens"].as_u64().expect("a count");
    // One of the chunks told the role.
    assert!((chunks as u64 - 1..3000).contains(&tokens), "{used}");
    assert!(used["ever"]["prompt_tokens"].as_u64().is_some_and(|tokens| tokens > 20), "{used}");
}

#[tokio::test]
async fn a_stream_without_max_tokens_is_bounded_where_tokens_are_limited() {
    let setup = Setup::small().limited_key("a", "ka", "tokens_per_minute = 4000").key("b", "kb");
    let gateway = started(setup).await.with_key("ka");
    let mut body =
        ask_streamed("small", "Write a very long story about a ship. Describe every day of its voyage.");
    body.as_object_mut().expect("an object").remove("max_tokens");
    body["temperature"] = json!(1.3);
    let chunks = gateway.chat(&body).await.chunks();
    let usage = &chunks.last().expect("a chunk")["usage"];
    assert!(usage["completion_tokens"].as_u64().is_some_and(|tokens| tokens <= 1024), "{usage}");
    body["max_tokens"] = 5000.into();
    let refused = gateway.chat(&body).await;
    refused.assert_error(429, Some("rate_limit_exceeded"));
    assert_eq!(refused.header("x-should-retry"), "false", "it will never fit");
    assert!(refused.headers.get("retry-after").is_none());
}

/// More than was reserved, told by an upstream that thinks aloud: it is counted, and then nothing is left.
#[tokio::test]
async fn what_an_upstream_used_counts_whatever_was_reserved() {
    let upstream = Upstream::start(Script::Says("Berlin.", 950)).await;
    let setup = Setup::empty().remote("large", 1.0, &upstream.base_url).cache("enabled = false");
    let setup = setup.limited_key("a", "ka", "budget_tokens = 1000\nbudget_period = \"total\"");
    let mut gateway = started(setup).await.with_key("ka");
    assert!(gateway.chat(&ask("large", CAPITAL)).await.status.is_success());
    gateway.chat(&ask("large", CAPITAL)).await.assert_error(429, Some("insufficient_quota"));
    gateway.kill();
    let gateway = Gateway::start_in(gateway.setup(), Arc::clone(&gateway.home())).await.with_key("ka");
    assert_eq!(gateway.used_tokens("a").await, 950, "it was on the disk before the end was told");
}
