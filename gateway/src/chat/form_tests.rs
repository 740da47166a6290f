//! Forms and tools: what is asked of the tiers, what is told, what is not remembered.

use reprise_router::PolicyKind;
use reprise_tier::{JsonForm, TierError, ToolChoice};
use serde_json::{Value, json};

use super::scripted::{Play, Scripted, Stage, json, text};

const QUESTION: &str = "which colour has the sky";

#[expect(clippy::needless_pass_by_value, reason = "callers write json! in place")]
fn ask(fields: Value) -> Value {
    let mut body =
        json!({"model": "auto", "temperature": 0, "messages": [{"role": "user", "content": QUESTION}]});
    body.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    body
}

fn schema(name: &str) -> Value {
    json!({"type": "json_schema", "json_schema": {"name": "a", "schema": {"properties": {name: {}}}}})
}

fn tools() -> Value {
    json!([{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}])
}

fn refused() -> TierError {
    TierError::Unsupported { param: "response_format".into(), message: "Not here.".into() }
}

#[tokio::test]
async fn a_form_reaches_the_tier_and_a_repeat_of_another_is_none() {
    let small = Scripted::new("small", 0.1, &[Play::Say("{}")]);
    let stage = Stage::new(PolicyKind::SmallPlain, &[&small]);
    for format in [schema("a"), schema("b"), schema("a"), json!({"type": "json_object"}), Value::Null] {
        stage.send(&ask(json!({"response_format": format})), &[]).await;
    }
    let asked: Vec<Option<JsonForm>> =
        small.asked.lock().iter().map(|request| request.form.clone()).collect();
    assert_eq!(asked.len(), 4, "the same form again is an exact repeat");
    assert!(matches!(&asked[0], Some(JsonForm::Schema(schema)) if schema["properties"]["a"] == json!({})));
    assert_eq!((&asked[2], &asked[3]), (&Some(JsonForm::Object), &None));
}

#[tokio::test]
async fn examples_are_shown_under_their_own_form_alone() {
    let small = Scripted::new("small", 0.1, &[Play::Say("{}")]);
    let stage = Stage::new(PolicyKind::SmallExamples, &[&small]);
    let shown = async |question: &str, format: Value| {
        let mut body = ask(json!({"response_format": format}));
        body["messages"][0]["content"] = question.into();
        let response = stage.send(&body, &[]).await;
        let examples = response.headers()["x-reprise-examples"].to_str().unwrap().to_owned();
        stage.settled().await;
        examples
    };
    assert_eq!(shown("which colour has the sky today", schema("a")).await, "0");
    assert_eq!(shown("which colour has the sky now", schema("a")).await, "1");
    assert_eq!(shown("which colour has the sky then", schema("b")).await, "0");
    assert_eq!(shown("which colour has the sky ever", Value::Null).await, "0");
}

#[tokio::test]
async fn a_tier_that_cannot_hold_to_a_form_is_passed_by_and_the_last_says_why() {
    let small = Scripted::new("small", 0.1, &[Play::Fail(refused())]);
    let large = Scripted::new("large", 1.0, &[Play::Say("{}"), Play::Fail(refused())]);
    let stage = Stage::new(PolicyKind::SmallPlain, &[&small, &large]);
    let body = ask(json!({"response_format": schema("a"), "temperature": 1}));
    let response = stage.send(&body, &[]).await;
    assert_eq!(response.headers()["x-reprise-tier"], "large");
    let response = stage.send(&body, &[]).await;
    assert_eq!(response.status().as_u16(), 400);
    let error = &json(response).await["error"];
    assert_eq!(
        (&error["param"], &error["type"]),
        (&json!("response_format"), &json!("invalid_request_error"))
    );
}

#[tokio::test]
async fn calls_are_told_whole_and_streamed_and_are_never_remembered() {
    let call = Play::Call("", "f", &["{\"a\":1}", "{}"]);
    let small = Scripted::new("small", 0.1, &[call]);
    let stage = Stage::new(PolicyKind::SmallExamples, &[&small]);
    let body = ask(json!({"tools": tools(), "tool_choice": "required"}));
    let answer = json(stage.send(&body, &[]).await).await;
    let choice = &answer["choices"][0];
    assert_eq!(
        (&choice["finish_reason"], &choice["message"]["content"]),
        (&json!("tool_calls"), &Value::Null)
    );
    let call = |id: &str, arguments: &str| json!({"id": id, "type": "function", "function": {"name": "f", "arguments": arguments}});
    assert_eq!(choice["message"]["tool_calls"], json!([call("call_0", "{\"a\":1}"), call("call_1", "{}")]));

    let mut streamed = body.clone();
    streamed["stream"] = true.into();
    let events = text(stage.send(&streamed, &[]).await).await;
    let deltas: Vec<Value> = events
        .lines()
        .filter_map(|line| line.strip_prefix("data: {"))
        .map(|data| serde_json::from_str::<Value>(&format!("{{{data}")).unwrap())
        .filter_map(|chunk| chunk["choices"][0]["delta"]["tool_calls"].as_array().cloned())
        .flatten()
        .collect();
    assert_eq!(deltas.iter().map(|delta| delta["index"].as_u64().unwrap()).collect::<Vec<_>>(), [0, 0, 1, 1]);
    assert!(deltas[0]["id"] == "call_0" && deltas[1].get("id").is_none());
    stage.settled().await;
    let stats = stage.state.cache().unwrap().stats();
    assert_eq!((stats.examples, stats.answers), (0, 0));
    assert_eq!(small.asked.lock().len(), 2, "no exact repeat of a call");
    assert_eq!(small.asked.lock()[0].tools.as_ref().unwrap().choice, ToolChoice::Required);
}

#[tokio::test]
async fn where_tools_are_at_hand_no_example_is_shown_or_made() {
    let small = Scripted::new("small", 0.1, &[Play::Say("blue")]);
    let stage = Stage::new(PolicyKind::SmallExamples, &[&small]);
    let mut plain = ask(json!({}));
    plain["messages"][0]["content"] = "which colour has the sky today".into();
    stage.send(&plain, &[]).await;
    stage.settled().await;
    assert_eq!(stage.state.cache().unwrap().stats().examples, 1);
    let response = stage.send(&ask(json!({"tools": tools()})), &[]).await;
    assert_eq!(response.headers()["x-reprise-examples"], "0");
    stage.settled().await;
    assert_eq!(stage.state.cache().unwrap().stats().examples, 1);
}
