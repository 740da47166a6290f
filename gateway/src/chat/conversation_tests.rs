//! What a conversation is shown, with tiers and an embedder that do as they are told.

use reprise_router::PolicyKind;
use serde_json::{Value, json};

use super::scripted::{Play, Scripted, Stage};

const SKY: &str = "name the colour of the sky at noon";
const GRASS: &str = "count blades in grass behind our house";

/// User and assistant by turns.
fn conversation(turns: &[&str]) -> Value {
    let role = |at: usize| if at.is_multiple_of(2) { "user" } else { "assistant" };
    let messages: Vec<Value> =
        turns.iter().enumerate().map(|(at, text)| json!({"role": role(at), "content": text})).collect();
    json!({"model": "auto", "messages": messages})
}

/// A gateway that remembers one answer to each of the two questions.
async fn taught() -> (Stage, std::sync::Arc<Scripted>) {
    let small = Scripted::new("small", 0.1, &[Play::Say("blue"), Play::Say("many"), Play::Say("ok")]);
    let stage = Stage::new(PolicyKind::SmallExamples, &[&small]);
    for question in [SKY, GRASS] {
        stage.send(&conversation(&[question]), &[("x-reprise-max-examples", "0")]).await;
        stage.settled().await;
    }
    (stage, small)
}

/// The questions of the examples that stood in the prompt of a conversation, behind which it stands as it is.
async fn shown(stage: &Stage, small: &Scripted, body: &Value) -> Vec<String> {
    let response =
        stage.send(body, &[("x-reprise-cache", "read-only"), ("x-reprise-max-examples", "1")]).await;
    assert_eq!(response.status(), 200);
    let sent = body["messages"].as_array().unwrap();
    let asked = small.asked.lock();
    let messages = &asked.last().unwrap().messages;
    let own = messages.len() - sent.len();
    for (message, sent) in messages[own..].iter().zip(sent) {
        assert_eq!(message.content, sent["content"].as_str().unwrap_or_default());
    }
    messages[..own].iter().step_by(2).map(|message| message.content.clone()).collect()
}

#[tokio::test]
async fn what_was_asked_first_is_found_where_the_last_turn_only_points_at_it() {
    let (stage, small) = taught().await;
    let body = conversation(&[SKY, "do you want reasons too", "no"]);
    assert_eq!(shown(&stage, &small, &body).await, [SKY]);
    let alone = conversation(&["no"]);
    assert_eq!(shown(&stage, &small, &alone).await, [""; 0]);
}

#[tokio::test]
async fn a_last_turn_that_says_it_all_is_not_blurred_by_what_was_said_before() {
    let (stage, small) = taught().await;
    let body =
        conversation(&["name the colour of the sky at dusk", "red", "count blades in grass behind my house"]);
    assert_eq!(shown(&stage, &small, &body).await, [GRASS]);
}

#[tokio::test]
async fn no_example_is_shown_behind_a_tools_result_beside_tools_or_far_into_a_loop() {
    let (stage, small) = taught().await;
    let near = "name the colour of the sky at dusk";
    let long = |answers: usize| {
        let mut turns = vec![near; 2 * answers + 1];
        turns.iter_mut().skip(1).step_by(2).for_each(|turn| *turn = "red");
        conversation(&turns)
    };
    assert_eq!(shown(&stage, &small, &long(8)).await, [SKY]);
    assert_eq!(shown(&stage, &small, &long(9)).await, [""; 0], "a long loop");

    let call = json!({"id": "c", "type": "function", "function": {"name": "look", "arguments": "{}"}});
    let tool = json!([
        {"role": "user", "content": near},
        {"role": "assistant", "content": null, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c", "content": "red"},
    ]);
    let behind = json!({"model": "auto", "messages": tool});
    assert_eq!(shown(&stage, &small, &behind).await, [""; 0], "a tool's result is to be answered");
    let mut later = tool.as_array().unwrap().clone();
    later.extend([json!({"role": "assistant", "content": "red"}), json!({"role": "user", "content": near})]);
    let later = json!({"model": "auto", "messages": later});
    assert_eq!(shown(&stage, &small, &later).await, [""; 0], "a tool had its say");

    let mut beside = conversation(&[near]);
    beside["tools"] =
        json!([{"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}]);
    beside["tool_choice"] = "auto".into();
    let response = stage.send(&beside, &[("x-reprise-cache", "read-only")]).await;
    assert_eq!(response.headers().get("x-reprise-examples").map(|count| count.as_bytes()), Some(&b"0"[..]));
}
