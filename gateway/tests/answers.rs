//! What a client gets for a proper request, from the real small model.
#![cfg(test)]

mod support;

use serde_json::{Value, json};
use support::reply::Reply;
use support::{CAPITAL, Gateway, Setup, ask, ask_streamed};

#[tokio::test]
async fn json_and_stream_carry_the_same_answer() {
    let gateway = Gateway::start(Setup::small()).await;

    let whole = gateway.chat_with(&ask("small", CAPITAL), &[("x-reprise-cache", "off")]).await;
    let json = whole.json();
    assert_eq!(json["object"], "chat.completion");
    assert!(json["id"].as_str().is_some_and(|id| !id.is_empty()));
    assert!(json["created"].as_i64().is_some_and(|created| created > 1_600_000_000));
    assert!(json["model"].is_string());
    let choice = &json["choices"][0];
    assert_eq!((&choice["index"], &choice["message"]["role"]), (&json!(0), &json!("assistant")));
    assert_eq!(choice["finish_reason"], "stop", "{json:#}");
    assert!(whole.text().contains("Berlin"), "{json:#}");
    assert_usage(&json["usage"]);
    assert_headers(&whole, "small", "BYPASS");

    let streamed = gateway.chat_with(&ask_streamed("small", CAPITAL), &[("x-reprise-cache", "off")]).await;
    let chunks = streamed.chunks();
    assert_eq!(streamed.streamed_text(), whole.text(), "temperature 0 gives one answer, however it is sent");
    assert!(chunks.len() > 3, "the text comes in parts: {chunks:#?}");
    assert!(
        chunks
            .iter()
            .all(|chunk| chunk["object"] == "chat.completion.chunk" && chunk["id"] == chunks[0]["id"])
    );
    assert_eq!(chunks[0]["choices"][0]["delta"]["role"], "assistant");
    let reasons: Vec<&Value> = chunks
        .iter()
        .map(|chunk| &chunk["choices"][0]["finish_reason"])
        .filter(|reason| !reason.is_null())
        .collect();
    assert_eq!(reasons, ["stop"], "exactly one chunk ends the choice");
    let usage: Vec<&Value> =
        chunks.iter().map(|chunk| &chunk["usage"]).filter(|usage| !usage.is_null()).collect();
    // What was found in KV memory depends on what was asked before.
    let counts = |usage: &Value| {
        ["prompt_tokens", "completion_tokens", "total_tokens"].map(|name| usage[name].clone())
    };
    let told: Vec<_> = usage.into_iter().map(counts).collect();
    assert_eq!(
        told,
        [counts(&json["usage"])],
        "usage stands in the last chunk, and is that of the whole answer"
    );
    assert_headers(&streamed, "small", "BYPASS");

    let without_usage = json!({
        "model": "small", "stream": true, "temperature": 0, "max_tokens": 8,
        "messages": [{"role": "user", "content": CAPITAL}],
    });
    let chunks = gateway.chat(&without_usage).await.chunks();
    assert!(chunks.iter().all(|chunk| chunk["usage"].is_null()), "no usage where it was not asked for");
}

#[tokio::test]
async fn sampling_fields_are_honoured() {
    let gateway = Gateway::start(Setup::small()).await;
    let answer = async |body: &Value| gateway.chat_with(body, &[("x-reprise-cache", "off")]).await;
    let counting = "Count from one to twenty in English words, separated by commas.";

    let mut limited = ask("small", counting);
    limited["max_tokens"] = 5.into();
    let reply = answer(&limited).await.json();
    assert_eq!(reply["choices"][0]["finish_reason"], "length");
    assert_eq!(reply["usage"]["completion_tokens"], 5);
    // The name that newer clients send.
    limited.as_object_mut().expect("an object").remove("max_tokens");
    limited["max_completion_tokens"] = 6.into();
    assert_eq!(answer(&limited).await.json()["usage"]["completion_tokens"], 6);

    let free = answer(&ask("small", CAPITAL)).await.text();
    let mut stopped = ask("small", CAPITAL);
    stopped["stop"] = json!(["Berlin"]);
    let reply = answer(&stopped).await;
    assert_eq!(reply.json()["choices"][0]["finish_reason"], "stop");
    let before = free.split("Berlin").next().expect("text before it");
    assert_eq!(
        reply.text().trim_end(),
        before.trim_end(),
        "the stop string and what follows it are left out"
    );
    stopped["stop"] = json!("Berlin");
    assert_eq!(answer(&stopped).await.text(), reply.text(), "a single stop string needs no list");
    stopped["stream"] = true.into();
    assert_eq!(
        answer(&stopped).await.streamed_text().trim_end(),
        before.trim_end(),
        "streamed, nothing of it slips out"
    );

    let mut seeded = json!({
        "model": "small", "temperature": 1.5, "top_p": 0.95, "seed": 7, "max_tokens": 16,
        "messages": [{"role": "user", "content": "Invent a name for a ship and tell its story."}],
    });
    let first = answer(&seeded).await.text();
    assert_eq!(answer(&seeded).await.text(), first, "one seed, one answer");
    let mut others = Vec::new();
    for seed in 8..11 {
        seeded["seed"] = seed.into();
        others.push(answer(&seeded).await.text());
    }
    assert!(others.iter().any(|other| *other != first), "another seed, another answer");
}

#[tokio::test]
async fn the_whole_conversation_reaches_the_model() {
    let gateway = Gateway::start(Setup::small()).await;
    let body = json!({
        "model": "small", "temperature": 0, "max_tokens": 32,
        "messages": [
            {"role": "system", "content": "You are a helpful assistant."},
            {"role": "user", "content": "My name is Bartholomew."},
            {"role": "assistant", "content": "Nice to meet you, Bartholomew!"},
            {"role": "user", "content": [{"type": "text", "text": "What is my name?"}]},
        ],
    });
    let reply = gateway.chat(&body).await;
    assert!(reply.text().contains("Bartholomew"), "history and text parts are read: {}", reply.text());

    let mut longer = body.clone();
    longer["messages"][0]["content"] =
        "You are a helpful assistant. Be kind and brief in all that you say.".into();
    let tokens = |reply: &Reply| reply.json()["usage"]["prompt_tokens"].as_u64().expect("a count");
    assert!(tokens(&gateway.chat(&longer).await) > tokens(&reply), "the system prompt is part of the prompt");
}

#[tokio::test]
async fn models_and_health_tell_of_the_tiers() {
    let gateway = Gateway::start(Setup::small()).await;

    let models = gateway.get("/v1/models").await.json();
    assert_eq!(models["object"], "list");
    let ids: Vec<&str> =
        models["data"].as_array().expect("a list").iter().filter_map(|model| model["id"].as_str()).collect();
    assert!(ids.contains(&"auto") && ids.contains(&"small"), "{ids:?}");
    assert!(ids.contains(&"smollm2-135m-instruct-q4_1"), "{ids:?}");
    for model in models["data"].as_array().expect("a list") {
        assert_eq!(model["object"], "model");
        assert!(model["created"].is_i64() && model["owned_by"].is_string(), "{model}");
    }

    for model in ["auto", "small", "smollm2-135m-instruct-q4_1"] {
        let reply = gateway.chat(&ask(model, CAPITAL)).await;
        assert_eq!(reply.header("x-reprise-tier"), "small", "{model} leads to the one tier there is");
        assert!(!reply.text().is_empty());
    }

    assert!(gateway.get("/livez").await.status.is_success());
    let ready = gateway.get("/readyz").await;
    assert!(ready.body.contains("small"), "each tier is listed: {}", ready.body);
}

fn assert_usage(usage: &Value) {
    let count = |name: &str| usage[name].as_u64().unwrap_or_else(|| panic!("no {name} in {usage}"));
    assert!(count("prompt_tokens") > 5 && count("completion_tokens") > 2, "{usage}");
    assert_eq!(count("prompt_tokens") + count("completion_tokens"), count("total_tokens"));
}

fn assert_headers(reply: &Reply, tier: &str, cache: &str) {
    assert!(!reply.header("x-request-id").is_empty());
    assert_eq!(reply.header("x-reprise-tier"), tier);
    assert_eq!(reply.cache(), cache);
    assert_eq!(reply.header("x-reprise-examples"), "0");
    let overhead: f64 = reply.header("x-reprise-overhead-ms").parse().expect("milliseconds");
    assert!(overhead >= 0.0);
}
