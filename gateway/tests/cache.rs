//! What is remembered, for whom, and who may ask for it not to be.
#![cfg(test)]

mod support;

use serde_json::{Value, json};
use support::{CAPITAL, CAPITAL_AGAIN, Gateway, Setup, ask, ask_streamed};

/// Examples whenever there are any, so that no test hangs on a draw of the bandit.
fn with_examples() -> Setup {
    Setup::small().router("policy = \"small-examples\"")
}

#[tokio::test]
async fn the_same_request_is_a_hit_and_a_near_one_shows_examples() {
    let gateway = Gateway::start(with_examples()).await;

    let first = gateway.chat(&ask("auto", CAPITAL)).await;
    assert_eq!(first.cache(), "MISS");
    assert_eq!(first.json()["choices"][0]["finish_reason"], "stop", "only a finished answer is remembered");
    let example = &gateway.examples("default", 1).await[0];
    assert_eq!(example["request"], CAPITAL);
    assert_eq!(example["answer"].as_str().map(str::trim), Some(first.text().trim()));

    let running_before = tokens_computed(&gateway).await;
    let again = gateway.chat(&ask("auto", CAPITAL)).await;
    assert_eq!(again.cache(), "HIT");
    assert_eq!((again.text(), &again.json()["usage"]), (first.text(), &first.json()["usage"]));
    assert_ne!(again.header("x-request-id"), first.header("x-request-id"));
    let streamed = gateway.chat(&ask_streamed("auto", CAPITAL)).await;
    assert_eq!(streamed.cache(), "HIT", "stored once, sent as JSON or as a stream");
    assert_eq!(streamed.streamed_text(), first.text());
    assert_eq!(tokens_computed(&gateway).await, running_before, "no tier computed anything for a hit");

    let near = gateway.chat(&ask("auto", CAPITAL_AGAIN)).await;
    assert_eq!(near.cache(), "EXAMPLES", "{near:#?}");
    assert_eq!(near.header("x-reprise-examples"), "1");
    let similarity: f32 = near.header("x-reprise-similarity").parse().expect("a cosine");
    assert!((0.7..=1.0).contains(&similarity), "{similarity}");
    let plain = gateway.chat_with(&ask("auto", CAPITAL_AGAIN), &[("x-reprise-cache", "off")]).await;
    let prompt =
        |reply: &support::reply::Reply| reply.json()["usage"]["prompt_tokens"].as_u64().expect("a count");
    assert!(prompt(&near) > prompt(&plain), "the example's tokens are part of the prompt");

    let metrics = gateway.metrics().await;
    for (result, least) in [("hit", 2.0), ("examples", 1.0), ("miss", 1.0), ("bypass", 1.0)] {
        assert!(metrics.sum("reprise_cache_lookups_total", &[("result", result)]) >= least, "{result}");
    }
    assert!(metrics.sum("reprise_tokens_saved_total", &[]) > 0.0);
}

#[tokio::test]
async fn only_the_very_same_request_is_a_hit() {
    let gateway = Gateway::start(with_examples()).await;
    let asked = ask("auto", CAPITAL);
    assert_eq!(gateway.chat(&asked).await.cache(), "MISS");
    assert_eq!(gateway.chat(&asked).await.cache(), "HIT");

    let changed = |pointer: &str, value: Value| {
        let mut body = asked.clone();
        body[pointer] = value;
        body
    };
    let system =
        json!([{"role": "system", "content": "Answer in French."}, {"role": "user", "content": CAPITAL}]);
    for other in [
        changed("messages", system),
        changed("max_tokens", json!(63)),
        changed("top_p", json!(0.5)),
        changed("stop", json!(["."])),
        changed("seed", json!(1)),
        changed("logprobs", json!(true)),
        changed("frequency_penalty", json!(0.1)),
        changed("logit_bias", json!({"5": 1})),
        changed("top_k", json!(2)),
        changed("n", json!(2)),
        changed("model", json!("small")),
    ] {
        assert_ne!(gateway.chat(&other).await.cache(), "HIT", "{other}");
    }
    // An omitted temperature is not 0: such an answer is a draw, and the next draw may differ.
    let mut drawn = asked.clone();
    drawn.as_object_mut().expect("an object").remove("temperature");
    for _ in 0..2 {
        assert_ne!(gateway.chat(&drawn).await.cache(), "HIT");
    }
}

#[tokio::test]
async fn a_cut_answer_is_not_remembered() {
    let gateway = Gateway::start(with_examples()).await;
    let mut cut = ask("auto", "Count from one to twenty in English words.");
    cut["max_tokens"] = 3.into();
    for _ in 0..2 {
        let reply = gateway.chat(&cut).await;
        assert_eq!(reply.json()["choices"][0]["finish_reason"], "length");
        assert_eq!(reply.cache(), "MISS");
    }
    // A later answer that is remembered shows that the cut ones had their time to be.
    gateway.chat(&ask("auto", CAPITAL)).await;
    let requests: Vec<Value> =
        gateway.examples("default", 1).await.iter().map(|example| example["request"].clone()).collect();
    assert_eq!(requests, [CAPITAL]);
}

#[tokio::test]
async fn a_client_can_rule_the_cache_out() {
    let gateway = Gateway::start(with_examples()).await;
    let asked = ask("auto", CAPITAL);

    // Not stored: neither is there an answer to reuse, nor an example.
    for header in [("cache-control", "no-store"), ("x-reprise-cache", "off")] {
        let reply = gateway.chat_with(&asked, &[header]).await;
        assert!(matches!(reply.cache(), "MISS" | "BYPASS"), "{header:?}: {reply:#?}");
    }
    let read_only = gateway.chat_with(&asked, &[("x-reprise-cache", "read-only")]).await;
    assert_eq!(read_only.cache(), "MISS");
    assert_eq!(gateway.chat(&asked).await.cache(), "MISS", "none of the three was stored");

    // Stored now, but these do not want it.
    assert_eq!(gateway.chat(&asked).await.cache(), "HIT");
    assert_eq!(gateway.chat_with(&asked, &[("x-reprise-cache", "read-only")]).await.cache(), "HIT");
    for header in [("cache-control", "no-cache"), ("x-reprise-cache", "off"), ("cache-control", "max-age=0")]
    {
        assert_ne!(gateway.chat_with(&asked, &[header]).await.cache(), "HIT", "{header:?}");
    }
    assert_eq!(gateway.chat_with(&asked, &[("cache-control", "max-age=3600")]).await.cache(), "HIT");

    gateway.examples("default", 1).await;
    let near = ask("auto", CAPITAL_AGAIN);
    let none =
        gateway.chat_with(&near, &[("x-reprise-max-examples", "0"), ("cache-control", "no-store")]).await;
    assert_eq!((none.cache(), none.header("x-reprise-examples")), ("MISS", "0"));
    assert_eq!(gateway.chat_with(&near, &[("cache-control", "no-store")]).await.cache(), "EXAMPLES");
}

#[tokio::test]
async fn a_tenant_sees_nothing_of_another() {
    let setup = with_examples().admin().key("red", "key-of-red").key("blue", "key-of-blue");
    let gateway = Gateway::start(setup).await;
    let as_tenant = async |key: &str, body: &Value| {
        gateway.chat_with(body, &[("authorization", &format!("Bearer {key}"))]).await
    };
    let asked = ask("auto", CAPITAL);

    assert_eq!(as_tenant("key-of-red", &asked).await.cache(), "MISS");
    assert_eq!(as_tenant("key-of-red", &asked).await.cache(), "HIT");
    let admin = format!("Bearer {}", support::setup::ADMIN_KEY);
    let examples_of = async |tenant: &str| {
        let path = format!("/admin/v1/examples?tenant={tenant}");
        let reply = gateway.request(reqwest::Method::GET, &path).header("authorization", &admin).send().await;
        let json = support::reply::Reply::read(reply.expect("an answer")).await.json();
        json["data"].as_array().expect("a list").len()
    };
    support::wait::eventually("the example of red", || async {
        (examples_of("red").await == 1).then_some(())
    })
    .await;

    assert_eq!(as_tenant("key-of-blue", &asked).await.cache(), "MISS", "the same request of another tenant");
    assert_eq!(as_tenant("key-of-red", &ask("auto", CAPITAL_AGAIN)).await.cache(), "EXAMPLES");
    let near = as_tenant("key-of-blue", &ask("auto", "Tell me the capital of Germany.")).await;
    assert!(
        near.cache() == "MISS" || near.header("x-reprise-examples") == "1",
        "blue sees at most what blue asked: {near:#?}"
    );

    // Who says which tenant it is has no say: the key does.
    let claimed = gateway
        .chat_with(
            &ask("auto", "Name the capital city of Germany."),
            &[("authorization", "Bearer key-of-blue"), ("x-reprise-tenant", "red")],
        )
        .await;
    assert!(claimed.status.is_success());
    for key in ["", "key-of-nobody"] {
        as_tenant(key, &asked).await.assert_error(401, Some("invalid_api_key"));
    }
    let keyless = gateway.chat(&asked).await;
    keyless.assert_error(401, None);
}

#[tokio::test]
async fn secrets_never_reach_the_store() {
    let gateway = Gateway::start(with_examples()).await;
    let secret = "jane.roe@example.com";
    let reply =
        gateway.chat(&ask("auto", &format!("My address is {secret}. What is the capital of Germany?"))).await;
    assert_eq!(reply.json()["choices"][0]["finish_reason"], "stop");
    let example = &gateway.examples("default", 1).await[0];
    let request = example["request"].as_str().expect("text");
    assert!(request.contains("[EMAIL]") && !request.contains(secret), "{request}");
    assert!(!gateway.log().contains(secret), "nor the log");
}

async fn tokens_computed(gateway: &Gateway) -> f64 {
    gateway.metrics().await.sum("reprise_tokens_total", &[("kind", "completion")])
}

/// A system prompt says what to do with the text; under another the same text asks for something else.
#[tokio::test]
async fn an_example_is_shown_under_its_own_instructions_alone() {
    let gateway = Gateway::start(with_examples()).await;
    let under = |instructions: Option<&str>, question: &str| {
        let mut body = ask("auto", question);
        if let Some(instructions) = instructions {
            let messages =
                json!([{"role": "system", "content": instructions}, {"role": "user", "content": question}]);
            body["messages"] = messages;
        }
        body
    };
    let brief = Some("Answer in one short sentence.");
    assert_eq!(gateway.chat(&under(brief, CAPITAL)).await.cache(), "MISS");
    let example = &gateway.examples("default", 1).await[0];
    assert_eq!(example["context_free"], false, "a replay must not ask it without its instructions");

    let near = [("cache-control", "no-store")];
    let other = gateway.chat_with(&under(Some("Translate into French."), CAPITAL_AGAIN), &near).await;
    assert_eq!(other.cache(), "MISS", "{other:#?}");
    assert_eq!(gateway.chat_with(&under(None, CAPITAL_AGAIN), &near).await.cache(), "MISS");
    assert_eq!(gateway.chat_with(&under(brief, CAPITAL_AGAIN), &near).await.cache(), "EXAMPLES");
}
