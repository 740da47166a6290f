//! Answers that have to have a form, from the real small model.
#![expect(clippy::expect_used, clippy::panic, reason = "helpers of tests")]

use std::sync::Arc;

use super::common::{config, ready, request};
use reprise_engine::LocalTier;
use reprise_tier::{
    Event, Finish, FinishReason, Function, GenerateRequest, JsonForm, Sampling, Tier, TierError, ToolCalls,
    ToolChoice, Tools,
};
use serde_json::{Value, json};

#[derive(Debug)]
struct Whole {
    text: String,
    calls: ToolCalls,
    /// Events that told of calls.
    pieces: usize,
    finish: Finish,
}

async fn ask(tier: &LocalTier, request: GenerateRequest) -> Result<Whole, TierError> {
    let mut generation = tier.submit(request).expect("queued");
    let (mut text, mut calls, mut pieces) = (String::new(), ToolCalls::default(), 0);
    while let Some(event) = generation.next().await {
        match event? {
            Event::Started { .. } => {}
            Event::Delta { text: piece, .. } => text.push_str(&piece),
            Event::ToolCall { index, piece } => {
                calls.add(index, piece).expect("in order");
                pieces += 1;
            }
            Event::Finished(finish) => return Ok(Whole { text, calls, pieces, finish }),
        }
    }
    panic!("a generation without an end")
}

fn person() -> JsonForm {
    JsonForm::Schema(Arc::new(json!({
        "type": "object", "required": ["name", "age"],
        "properties": {"name": {"type": "string", "maxLength": 12}, "age": {"type": "integer", "minimum": 0, "maximum": 120}},
    })))
}

fn tools(choice: ToolChoice) -> Arc<Tools> {
    let parameters = json!({"type": "object", "properties": {"city": {"type": "string", "maxLength": 12}}, "required": ["city"]});
    let function = Function {
        name: "weather".into(),
        description: Some("The weather of a city".into()),
        parameters: Arc::new(parameters),
        strict: true,
    };
    Arc::new(Tools { functions: vec![function], choice, parallel: false })
}

#[tokio::test]
async fn an_answer_has_its_form_at_any_temperature() {
    let tier = ready(config(Some(1024), 64)).await;
    for seed in 0..6 {
        let sampling = Sampling { temperature: 0.4 * seed as f32, seed: Some(seed), ..Sampling::default() };
        let request =
            GenerateRequest { sampling, form: Some(person()), ..request("Tell me of a person.", 200) };
        let whole = ask(&tier, request).await.expect("answered");
        assert_eq!(whole.finish.reason, FinishReason::Stop, "{}", whole.text);
        let value: Value = serde_json::from_str(&whole.text).expect("JSON");
        assert!(value["name"].as_str().is_some_and(|name| name.chars().count() <= 12), "{value}");
        assert!(value["age"].as_u64().is_some_and(|age| age <= 120), "{value}");
        assert_eq!(value.as_object().expect("an object").len(), 2);
    }
}

#[tokio::test]
async fn a_form_and_free_answers_share_a_batch() {
    let tier = ready(config(Some(512), 64)).await;
    let free = request("What is the capital of Germany?", 16);
    let alone = ask(&tier, free.clone()).await.expect("answered").text;
    let formed = GenerateRequest { form: Some(person()), ..request("Tell me of a person.", 100) };
    let (one, two, three) = tokio::join!(ask(&tier, formed.clone()), ask(&tier, free), ask(&tier, formed));
    assert_eq!(two.expect("answered").text, alone);
    assert_eq!(one.expect("answered").text, three.expect("answered").text);
}

#[tokio::test]
async fn a_call_that_must_be_made_is_made_and_told_in_parts() {
    let tier = ready(config(Some(1024), 64)).await;
    for choice in [ToolChoice::Required, ToolChoice::Named("weather".into())] {
        let request =
            GenerateRequest { tools: Some(tools(choice)), ..request("What is the weather in Berlin?", 200) };
        let whole = ask(&tier, request).await.expect("answered");
        assert_eq!((whole.finish.reason, whole.text.as_str()), (FinishReason::ToolCalls, ""));
        assert!(whole.pieces > 2, "{whole:?}");
        let calls = whole.calls.into_value().expect("a call");
        assert_eq!(
            (&calls[0]["function"]["name"], calls.as_array().map(Vec::len)),
            (&json!("weather"), Some(1))
        );
        let arguments = calls[0]["function"]["arguments"].as_str().expect("text");
        let arguments: Value = serde_json::from_str(arguments).expect("JSON");
        assert!(arguments["city"].is_string(), "{arguments}");
    }
}

#[tokio::test]
async fn what_cannot_be_held_to_is_refused_and_nobody_else_notices() {
    let tier = ready(config(Some(512), 64)).await;
    let form = JsonForm::Schema(Arc::new(json!({"type": "array", "uniqueItems": true})));
    let bad = GenerateRequest { form: Some(form), ..request("A list, please.", 16) };
    let (refused, answered) = tokio::join!(ask(&tier, bad), ask(&tier, request("Say hi.", 4)));
    assert!(matches!(refused, Err(TierError::Unsupported { ref param, .. }) if param == "response_format"));
    assert!(answered.is_ok());
}

#[tokio::test]
async fn a_text_is_gone_on_with_as_it_stands() {
    let tier = ready(config(Some(512), 64)).await;
    let text = "Once upon a time there was a";
    let request = GenerateRequest { messages: Vec::new(), text: Some(text.into()), ..request("", 8) };
    let whole = ask(&tier, request.clone()).await.expect("answered");
    assert_eq!(whole.finish.usage.completion_tokens, 8, "{whole:?}");
    assert!(whole.finish.usage.prompt_tokens <= 8, "no template: {whole:?}");
    let empty = GenerateRequest { text: Some(String::new()), ..request };
    assert_eq!(ask(&tier, empty).await.expect("answered").finish.usage.prompt_tokens, 1);
}
