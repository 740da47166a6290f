//! Every request that cannot be answered gets its proper error in OpenAI's shape, and costs nothing that stays.
#![cfg(test)]

mod support;

use reqwest::Method;
use serde_json::{Value, json};
use support::reply::Reply;
use support::{CAPITAL, Gateway, Setup, ask};

#[tokio::test]
async fn malformed_requests_name_the_field() {
    let gateway = Gateway::start(Setup::small()).await;

    for broken in ["{", "", "[1, 2", "null", "\"text\"", "{\"model\": \"small\", \"messages\": [}"] {
        gateway.chat_raw(broken).await.assert_error(400, None);
    }
    gateway.chat_raw(vec![0xff, 0xfe, 0x00]).await.assert_error(400, None);

    let cases = [
        ("messages", json!([])),
        ("messages", json!("hello")),
        ("messages", Value::Null),
        ("model", json!(5)),
        ("n", json!(0)),
        ("n", json!(-1)),
        ("n", json!("two")),
        ("temperature", json!("hot")),
        ("temperature", json!(-0.1)),
        ("temperature", json!(2.1)),
        ("top_p", json!(1.5)),
        ("top_p", json!(-1)),
        ("max_tokens", json!(0)),
        ("max_tokens", json!(-5)),
        ("max_tokens", json!(1.5)),
        ("max_tokens", json!("many")),
        ("stream", json!("yes")),
        ("stop", json!(5)),
        ("stop", json!(["a", "b", "c", "d", "e"])),
        ("seed", json!("one")),
        ("stream_options", json!("usage")),
        ("max_completion_tokens", json!(0)),
        ("n", json!(9)),
        ("logprobs", json!("yes")),
        ("top_logprobs", json!(21)),
        ("top_logprobs", json!(2)),
        ("frequency_penalty", json!(2.5)),
        ("presence_penalty", json!("high")),
        ("repetition_penalty", json!(0)),
        ("logit_bias", json!({"5": 101})),
        ("logit_bias", json!({"five": 1})),
        ("logit_bias", json!([5])),
        ("top_k", json!(-2)),
        ("min_p", json!(1.5)),
    ];
    for (field, value) in cases {
        let mut body = ask("small", CAPITAL);
        body[field] = value.clone();
        let reply = gateway.chat(&body).await;
        assert_eq!(reply.status.as_u16(), 400, "{field} = {value}: {reply:#?}");
        let error = reply.assert_error(400, None);
        let param =
            error["param"].as_str().unwrap_or_else(|| panic!("{field} = {value}: no param in {error}"));
        assert!(param.starts_with(field), "{field} = {value}: {error}");
    }
    for (name, messages) in [
        ("an unknown role", json!([{"role": "robot", "content": "x"}])),
        ("no role", json!([{"content": "x"}])),
        ("content of a wrong type", json!([{"role": "user", "content": 5}])),
        ("a number as the message", json!([5])),
    ] {
        let mut body = ask("small", CAPITAL);
        body["messages"] = messages;
        let error = gateway.chat(&body).await.assert_error(400, None);
        assert!(
            error["param"].as_str().is_some_and(|param| param.starts_with("messages")),
            "{name}: {error}"
        );
    }
    let mut missing = ask("small", CAPITAL);
    missing.as_object_mut().expect("an object").remove("messages");
    gateway.chat(&missing).await.assert_names("messages");

    // What is not known is borne: clients send more than any one server knows.
    let mut tolerated = ask("small", CAPITAL);
    tolerated["a_field_of_the_future"] = json!({"deep": [1, 2]});
    assert!(gateway.chat(&tolerated).await.status.is_success());

    still_answers(&gateway).await;
}

#[tokio::test]
async fn unknown_things_are_not_found() {
    let gateway = Gateway::start(Setup::small()).await;

    let error = gateway.chat(&ask("gpt-99", CAPITAL)).await.assert_error(404, Some("model_not_found"));
    assert!(error["message"].as_str().is_some_and(|message| message.contains("gpt-99")), "{error}");
    for path in ["/v1/nothing", "/nothing", "/admin/v1/nothing", "/v1/chat"] {
        gateway.get(path).await.assert_error(404, None);
    }
    for (method, path) in [
        (Method::GET, "/v1/chat/completions"),
        (Method::DELETE, "/v1/models"),
        (Method::PUT, "/v1/feedback"),
        (Method::POST, "/metrics"),
    ] {
        let reply = gateway.send(method.clone(), path, &json!({})).await;
        reply.assert_error(405, None);
        assert!(!reply.header("allow").is_empty(), "{method} {path}");
    }
    still_answers(&gateway).await;
}

#[tokio::test]
async fn sizes_have_limits() {
    let gateway = Gateway::start(Setup::small().server("max_body_bytes = 2097152")).await;

    // 1 MB is a body like any other, here over the context of the model.
    let megabyte = "word ".repeat(200_000);
    for _ in 0..3 {
        let error =
            gateway.chat(&ask("small", &megabyte)).await.assert_error(400, Some("context_length_exceeded"));
        assert_eq!(error["type"], "invalid_request_error");
        assert_eq!(error["param"], "messages");
    }
    // Routed, no tier can take it either.
    gateway.chat(&ask("auto", &megabyte)).await.assert_error(400, Some("context_length_exceeded"));

    let over = "word ".repeat(500_000);
    gateway.chat(&ask("small", &over)).await.assert_error(413, None);

    // A prompt that fits alone, but not with the completion that is asked for.
    let mut greedy = ask("small", &"word ".repeat(7_000));
    greedy["max_tokens"] = 4000.into();
    gateway.chat(&greedy).await.assert_error(400, Some("context_length_exceeded"));

    gateway.until_idle().await;
    still_answers(&gateway).await;
}

#[tokio::test]
async fn what_is_not_built_says_so() {
    let gateway = Gateway::start(Setup::small()).await;
    for (field, value) in [
        ("functions", json!([{"name": "f"}])),
        ("response_format", json!({"type": "grammar"})),
        ("reasoning_effort", json!("low")),
        ("guided_choice", json!(["a", "b"])),
    ] {
        let mut body = ask("small", CAPITAL);
        body[field] = value;
        gateway.chat(&body).await.assert_names(field);
    }
}

#[tokio::test]
async fn feedback_is_checked() {
    let gateway = Gateway::start(Setup::small()).await;
    let id = gateway.chat(&ask("auto", CAPITAL)).await.header("x-request-id").to_owned();
    let tell = async |body: Value| gateway.send(Method::POST, "/v1/feedback", &body).await;

    let accepted = tell(json!({"request_id": id, "rating": 0.9})).await;
    assert_eq!(accepted.status.as_u16(), 202, "{accepted:#?}");
    assert_eq!(accepted.value()["accepted"], true);
    tell(json!({"request_id": id, "rating": 1.5})).await.assert_error(400, None);
    tell(json!({"request_id": id, "preference": "meh"})).await.assert_error(400, None);
    tell(json!({"request_id": id})).await.assert_error(400, None);
    tell(json!({"rating": 1})).await.assert_error(400, None);
    tell(json!({"request_id": "0191aaaa-0000-7000-8000-000000000000", "rating": 1}))
        .await
        .assert_error(404, None);
    gateway.until("reprise_feedback_total", &[], |count| count == 1.0).await;
}

/// After all that the gateway is as it was: it answers, and no sequence is left.
async fn still_answers(gateway: &Gateway) {
    let reply: Reply = gateway.chat(&ask("small", CAPITAL)).await;
    assert!(reply.text().contains("Berlin"));
    gateway.until_idle().await;
    assert_eq!(gateway.metrics().await.sum("reprise_panics_total", &[]), 0.0);
}

#[tokio::test]
async fn without_keys_a_web_page_cannot_use_it() {
    let gateway = Gateway::start(Setup::small()).await;
    let body = ask("small", CAPITAL);
    // A page's name that was bound to this machine, and a page's script.
    for header in [("host", "rebound.example"), ("origin", "https://page.example")] {
        gateway.chat_with(&body, &[header]).await.assert_error(403, None);
    }
    assert!(gateway.chat_with(&body, &[("host", "localhost:8080")]).await.status.is_success());
}
