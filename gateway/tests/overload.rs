//! More requests than a tier takes: each is answered or turned away with a time to come back.
#![cfg(test)]

mod support;

use futures::future::join_all;
use reqwest::Method;
use support::reply::Reply;
use support::wait::eventually;
use support::{CAPITAL, Gateway, Setup, ask, ask_for_long};

const TINY: &str = "name = \"small\"\nmodel = \"smollm2-135m-instruct-q4_1\"\ncost = 0.1\nthreads = 2\nqueue = 1\nmax_sequences = 1\n";

#[tokio::test]
async fn a_full_queue_says_when_to_come_back() {
    let gateway = Gateway::start(Setup::empty().tier(TINY)).await;
    let off = ("x-reprise-cache", "off");
    let mut tasks = Vec::new();
    // How many it runs at once is its own business: requests are added until one waits.
    let refused = eventually("a request is turned away", || {
        let long = gateway.request(Method::POST, "/v1/chat/completions").header(off.0, off.1);
        tasks.push(tokio::spawn(long.json(&ask_for_long("small")).send()));
        async {
            if gateway.metrics().await.sum("reprise_tier_queue_depth", &[]) < 1.0 {
                return None;
            }
            let (body, headers) = (ask("small", CAPITAL), [off]);
            let reply = gateway.chat_with(&body, &headers);
            let reply = tokio::time::timeout(std::time::Duration::from_millis(500), reply).await.ok()?;
            (!reply.status.is_success()).then_some(reply)
        }
    })
    .await;
    let status = refused.status.as_u16();
    assert!([429, 503].contains(&status), "{refused:#?}");
    refused.assert_error(status, None);
    assert!(refused.header("retry-after").parse::<u64>().is_ok_and(|seconds| seconds >= 1), "{refused:#?}");

    for task in tasks {
        task.abort();
    }
    gateway.until_idle().await;
    assert!(gateway.chat(&ask("small", CAPITAL)).await.status.is_success());
}

#[tokio::test]
async fn many_at_once_get_the_answer_that_one_gets() {
    let gateway = Gateway::start(Setup::small()).await;
    let alone = gateway.chat_with(&ask("small", CAPITAL), &[("x-reprise-cache", "off")]).await.text();
    let body = ask("small", CAPITAL);
    let replies: Vec<Reply> =
        join_all((0..6).map(|_| gateway.chat_with(&body, &[("x-reprise-cache", "off")]))).await;
    for reply in replies {
        assert_eq!(reply.text(), alone, "an answer does not depend on its neighbours");
    }
    gateway.until_idle().await;
}
