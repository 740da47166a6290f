//! What a client sees when something breaks, and what is lost: each test adds its lines to the table in
//! `gateway/bench/runs`, made by `gateway/bench/faults`.
#![cfg(test)]

mod support;

use std::time::Duration;

use futures::StreamExt as _;
use futures::future::join_all;
use reqwest::Method;
use serde_json::Value;
use support::faults::tell;
use support::reply::Reply;
use support::upstream::{Script, Upstream};
use support::wait::eventually;
use support::{CAPITAL, Gateway, Setup, ask, ask_streamed};

const CHAT: &str = "/v1/chat/completions";

fn remote(upstream: &Upstream) -> Setup {
    Setup::empty().remote("large", 1.0, &upstream.base_url).cache("enabled = false")
}

fn told(reply: &Reply) -> String {
    let code = &reply.value()["error"]["code"];
    match reply.headers.get("retry-after") {
        Some(after) => {
            format!("{} {code}, Retry-After {}", reply.status.as_u16(), after.to_str().unwrap_or("?"))
        }
        None => format!("{} {code}", reply.status.as_u16()),
    }
}

/// The used tokens of the default tenant once nothing is reserved.
async fn settled(gateway: &Gateway) -> Value {
    eventually("all is settled", || async {
        let used = gateway.used("default").await;
        (used["reserved_tokens"] == 0).then(|| used["ever"].clone())
    })
    .await
}

#[tokio::test]
async fn a_tier_that_dies_in_mid_stream() {
    let upstream = Upstream::start(Script::DieMidStream("The capital is ")).await;
    let gateway = Gateway::start(remote(&upstream).resilience("retry_backoff_ms = 1.0")).await;
    let reply = gateway.chat(&ask_streamed("large", CAPITAL)).await;
    assert_eq!(reply.status.as_u16(), 200);
    assert!(reply.body.contains("The capital is ") && reply.body.contains("\"error\""), "{}", reply.body);
    assert!(
        !reply.body.contains("[DONE]") && !reply.body.contains("\"finish_reason\":\"stop\""),
        "{}",
        reply.body
    );
    assert_eq!(upstream.requests(), 1, "words were sent: nobody is asked again");
    let used = settled(&gateway).await;
    assert_eq!(used["completion_tokens"], 1, "the words that came: {used}");
    tell(
        "tier dies in mid-stream, streaming",
        "200, the words that came, an `error` event, no `[DONE]`",
        "the rest of the answer; the words that came are counted",
    );

    // Nothing was sent of an answer in one body: the same tier is asked again.
    let before = upstream.requests();
    upstream.play_once(Script::DieMidStream("The capital is "));
    upstream.play(Script::Answer("It is Berlin."));
    let reply = gateway.chat(&ask("large", CAPITAL)).await;
    assert_eq!(reply.text(), "It is Berlin.");
    assert_eq!(upstream.requests() - before, 2);
    tell("tier dies in mid-answer, not streaming", "200, the answer of the second attempt", "nothing");
}

#[tokio::test]
async fn a_tier_that_stalls() {
    let upstream = Upstream::start(Script::Held("Berlin.")).await;
    let gateway = Gateway::start(remote(&upstream).server("request_timeout_s = 1.5")).await;
    let reply = gateway.chat(&ask("large", CAPITAL)).await;
    reply.assert_error(504, Some("request_timeout"));
    eventually("the upstream is let go", || async { (upstream.open_streams() == 0).then_some(()) }).await;
    tell(
        "tier says nothing until the request's deadline",
        &told(&reply),
        "the answer; the upstream is let go",
    );

    upstream.play(Script::Stall("The capital is"));
    let reply = gateway.chat(&ask_streamed("large", CAPITAL)).await;
    assert!(reply.body.contains("\"error\"") && !reply.body.contains("[DONE]"), "{}", reply.body);
    settled(&gateway).await;
    tell(
        "tier stalls in mid-stream until the request's deadline",
        "200, the words that came, an `error` event, no `[DONE]`",
        "the rest of the answer",
    );
}

#[tokio::test]
async fn a_tier_that_sends_garbage_or_errors() {
    let upstream = Upstream::start(Script::Answer("Berlin.")).await;
    let lines = "retry_backoff_ms = 1.0\nbreaker_failures = 0\nretry_share = 1.0\nretries = 2";
    let gateway = Gateway::start(remote(&upstream).resilience(lines)).await;
    let cases = [
        ("garbage (an HTML page)", Script::Garbage, 502),
        ("500", Script::Status(500, r#"{"error":{"message":"boom","code":null}}"#), 502),
        ("429", Script::Status(429, r#"{"error":{"message":"slow down","code":null}}"#), 429),
        ("401", Script::Status(401, r#"{"error":{"message":"bad key","code":null}}"#), 502),
    ];
    for (name, script, status) in cases {
        upstream.play(script.clone());
        for (body, how) in
            [(ask("large", CAPITAL), "not streaming"), (ask_streamed("large", CAPITAL), "streaming")]
        {
            let before = upstream.requests();
            let reply = gateway.chat(&body).await;
            reply.assert_error(status, None);
            assert!(!reply.body.contains("html") && !reply.body.contains("bad key"), "{}", reply.body);
            let attempts = upstream.requests() - before;
            assert_eq!(attempts, if name == "401" { 1 } else { 3 }, "{name}");
            tell(
                &format!("tier answers {name}, {how}, no other tier"),
                &format!("{} after {attempts} attempts", told(&reply)),
                "the answer; nothing is counted",
            );
        }
        // Once is no more than a delay.
        upstream.play(Script::Answer("Berlin."));
        upstream.play_once(script);
        let reply = gateway.chat(&ask("large", CAPITAL)).await;
        if name == "401" {
            assert_eq!(reply.status.as_u16(), 502, "asking again does not help");
        } else {
            assert_eq!(reply.text(), "Berlin.");
            tell(&format!("tier answers {name} once"), "200, the answer of the second attempt", "nothing");
        }
    }
    let used = settled(&gateway).await;
    let answered = used["completion_tokens"].as_u64().expect("a count") / 3;
    assert_eq!(answered, 3, "only answers are counted: {used}");
}

#[tokio::test]
async fn a_client_that_goes_away() {
    let upstream = Upstream::start(Script::Held("Berlin.")).await;
    let gateway = Gateway::start(remote(&upstream)).await;
    for (body, how) in
        [(ask("large", CAPITAL), "not streaming"), (ask_streamed("large", CAPITAL), "streaming")]
    {
        let before = upstream.requests();
        let task = tokio::spawn(gateway.request(Method::POST, CHAT).json(&body).send());
        eventually("it is at the upstream", || async { (upstream.requests() > before).then_some(()) }).await;
        task.abort();
        eventually("the upstream is let go", || async { (upstream.open_streams() == 0).then_some(()) }).await;
        let used = settled(&gateway).await;
        assert_eq!(used["completion_tokens"], 0, "{used}");
        tell(
            &format!("client leaves before the first token, {how}"),
            "its own disconnection; the upstream's connection is closed",
            "nothing; nothing is counted",
        );
    }
    upstream.play(Script::Stall("Once upon a time"));
    let mut stream = gateway
        .request(Method::POST, CHAT)
        .json(&ask_streamed("large", CAPITAL))
        .send()
        .await
        .expect("a stream")
        .bytes_stream();
    stream.next().await.expect("a chunk").expect("bytes");
    drop(stream);
    eventually("the upstream is let go", || async { (upstream.open_streams() == 0).then_some(()) }).await;
    let used = settled(&gateway).await;
    assert_eq!(used["completion_tokens"], 1, "{used}");
    tell(
        "client leaves in mid-stream",
        "its own disconnection; the upstream's connection is closed",
        "nothing; the words that came are counted",
    );
    let metrics = gateway.metrics().await;
    assert_eq!(metrics.sum("reprise_tier_errors_total", &[]), 0.0, "no failure of the tier's");
    assert_eq!(metrics.sum("reprise_tier_circuit_open", &[]), 0.0);
}

/// A tier that takes 36 at once gets 360: ten times as many.
#[tokio::test]
async fn ten_times_as_much_as_can_be_borne() {
    let upstream = Upstream::start(Script::Held("Berlin.")).await;
    let tier = format!(
        "name = \"large\"\nbase_url = \"{}\"\nmodel = \"m\"\ncost = 1.0\nqueue = 4\n",
        upstream.base_url
    );
    let setup = Setup::empty().tier(&tier).cache("enabled = false").server("max_concurrent_requests = 1000");
    let gateway = Gateway::start(setup).await;
    let mut tasks: Vec<_> = (0..360)
        .map(|_| tokio::spawn(gateway.request(Method::POST, CHAT).json(&ask("large", CAPITAL)).send()))
        .collect();
    let refused = |metrics: &support::metrics::Metrics| {
        metrics.sum("reprise_requests_total", &[("endpoint", "chat"), ("status", "429")])
    };
    eventually("the rest is turned away", || async {
        (refused(&gateway.metrics().await) >= 324.0).then_some(())
    })
    .await;
    assert_eq!(upstream.requests(), 32);
    upstream.release();
    let (mut answered, mut turned_away) = (0, 0);
    for task in tasks.drain(..) {
        let reply = Reply::read(task.await.expect("it ends").expect("an answer")).await;
        match reply.status.as_u16() {
            200 => answered += 1,
            429 => {
                reply.assert_error(429, Some("model_overloaded"));
                assert!(reply.header("retry-after").parse::<u64>().is_ok_and(|seconds| seconds >= 1));
                turned_away += 1;
            }
            other => panic!("{other}: {reply:#?}"),
        }
    }
    assert_eq!((answered, turned_away), (36, 324));
    let used = settled(&gateway).await;
    assert_eq!(used["completion_tokens"], 3 * 36, "{used}");
    assert!(gateway.chat(&ask("large", CAPITAL)).await.status.is_success(), "and then as before");
    tell(
        "10x overload: 360 at once where 36 fit",
        "36 x 200, 324 x 429 `model_overloaded` with Retry-After",
        "nothing; only the 36 are counted",
    );
}

#[tokio::test]
async fn a_tier_that_fails_often_is_left_alone_and_tried_by_one() {
    let upstream = Upstream::start(Script::Status(500, "{}")).await;
    let lines = "retries = 0\nbreaker_failures = 3\nbreaker_open_s = 2.0\nbreaker_longest_s = 2.0";
    let gateway = Gateway::start(remote(&upstream).resilience(lines)).await;
    for _ in 0..3 {
        gateway.chat(&ask("large", CAPITAL)).await.assert_error(502, Some("upstream_error"));
    }
    let spared = gateway.chat(&ask("large", CAPITAL)).await;
    // A loaded machine may have slept through the two seconds: then it was one more trial.
    if upstream.requests() == 3 {
        spared.assert_error(503, None);
        tell(
            "tier failed 3 times in a row (breaker_failures = 3)",
            &told(&spared),
            "nothing; the tier is not asked",
        );
    }
    upstream.play(Script::Answer("Berlin."));
    eventually("it is found again", || async {
        let reply = gateway.chat(&ask("large", CAPITAL)).await;
        reply.status.is_success().then_some(())
    })
    .await;
    gateway.until("reprise_tier_circuit_open", &[], |open| open == 0.0).await;
}

#[tokio::test]
async fn a_second_request_helps_where_the_first_says_nothing() {
    let upstream = Upstream::start(Script::Answer("Berlin.")).await;
    let tier = |share: f64| {
        let tier = format!(
            "name = \"large\"\nbase_url = \"{}\"\nmodel = \"m\"\ncost = 1.0\nhedge_after_ms = 20.0\n",
            upstream.base_url
        );
        Setup::empty().tier(&tier).cache("enabled = false").resilience(&format!("hedge_share = {share:.1}"))
    };
    let gateway = Gateway::start(tier(1.0)).await;
    upstream.play_once(Script::Held("Never."));
    let before = upstream.requests();
    for body in [ask("large", CAPITAL), ask_streamed("large", CAPITAL)] {
        let reply = gateway.chat(&body).await;
        assert!(reply.body.contains("Berlin"), "{reply:#?}");
    }
    assert!(upstream.requests() - before >= 3);
    assert!(gateway.metrics().await.sum("reprise_tier_hedges_total", &[("first", "false")]) >= 1.0);
    eventually("the first is let go", || async { (upstream.open_streams() == 0).then_some(()) }).await;
    let used = settled(&gateway).await;
    assert_eq!(used["completion_tokens"], 6, "one answer each is counted: {used}");
    tell(
        "tier says nothing to one request; hedge_after_ms set",
        "200, the second request's answer",
        "nothing",
    );

    let unhedged = Gateway::start(tier(0.0)).await;
    upstream.play_once(Script::Held("At last."));
    let before = upstream.requests();
    let task = tokio::spawn(unhedged.request(Method::POST, CHAT).json(&ask("large", CAPITAL)).send());
    eventually("it is at the upstream", || async { (upstream.requests() > before).then_some(()) }).await;
    // Longer than hedge_after_ms: were there a share for it, a second request would come.
    tokio::time::sleep(Duration::from_millis(100)).await;
    upstream.release();
    let reply = Reply::read(task.await.expect("it ends").expect("an answer")).await;
    assert_eq!((reply.text().as_str(), upstream.requests() - before), ("At last.", 1));
}

#[tokio::test]
async fn the_same_question_at_once_is_answered_once() {
    let upstream = Upstream::start(Script::Held("Berlin.")).await;
    let gateway = Gateway::start(Setup::empty().remote("large", 1.0, &upstream.base_url)).await;
    let bodies =
        (0..12).map(|n| if n % 3 == 0 { ask_streamed("large", CAPITAL) } else { ask("large", CAPITAL) });
    let tasks: Vec<_> =
        bodies.map(|body| tokio::spawn(gateway.request(Method::POST, CHAT).json(&body).send())).collect();
    gateway.until("reprise_shared_flights_total", &[], |count| count == 11.0).await;
    assert_eq!(upstream.requests(), 1);
    upstream.release();
    let mut hits = 0;
    for task in tasks {
        let reply = Reply::read(task.await.expect("it ends").expect("an answer")).await;
        assert!(reply.status.is_success() && reply.body.contains("Berlin."), "{reply:#?}");
        hits += u32::from(reply.cache() == "HIT");
    }
    assert_eq!((hits, upstream.requests()), (11, 1));
    let used = settled(&gateway).await;
    assert_eq!(
        (used["requests"].clone(), used["completion_tokens"].clone()),
        (12.into(), 3.into()),
        "{used}"
    );

    // The first goes away: the others are answered all the same.
    let held = Upstream::start(Script::Held("Madrid.")).await;
    let gateway = Gateway::start(Setup::empty().remote("large", 1.0, &held.base_url)).await;
    let question = "What is the capital of Spain?";
    let first = tokio::spawn(gateway.request(Method::POST, CHAT).json(&ask("large", question)).send());
    eventually("it is at the upstream", || async { (held.requests() == 1).then_some(()) }).await;
    let (one, other) = (ask("large", question), ask("large", question));
    let others = async { join_all([gateway.chat(&one), gateway.chat(&other)]).await };
    let leave = async {
        gateway.until("reprise_shared_flights_total", &[], |count| count == 2.0).await;
        first.abort();
        eventually("they ask for themselves", || async { (held.requests() >= 3).then_some(()) }).await;
        held.release();
    };
    let (replies, ()) = futures::join!(others, leave);
    assert!(replies.iter().all(|reply| reply.text() == "Madrid."), "{replies:#?}");
    tell("the first of several identical requests goes away", "200 for all others", "nothing");
}
