//! Several choices and log probabilities: what is asked of the tiers, what is told, what is not remembered.

use reprise_router::PolicyKind;
use reprise_tier::TierError;
use serde_json::{Value, json};

use super::scripted::{Play, Scripted, Stage, json, text};

#[expect(clippy::needless_pass_by_value, reason = "callers write json! in place")]
fn ask(fields: Value) -> Value {
    let mut body = json!({"model": "auto", "temperature": 0, "messages": [{"role": "user", "content": "which colour has the sky"}]});
    body.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    body
}

fn chunks(events: &str) -> Vec<Value> {
    let data = events.lines().filter_map(|line| line.strip_prefix("data: "));
    data.filter(|data| *data != "[DONE]").map(|data| serde_json::from_str(data).unwrap()).collect()
}

fn broken() -> TierError {
    TierError::Internal { message: "as the script says".into() }
}

#[tokio::test]
async fn several_choices_are_as_many_generations() {
    let small = Scripted::new("small", 0.1, &[Play::Say("a"), Play::Say("b c"), Play::Say("d")]);
    let stage = Stage::new(PolicyKind::SmallExamples, &[&small]);
    let answer = json(stage.send(&ask(json!({"n": 3, "seed": 5})), &[]).await).await;
    let choices = answer["choices"].as_array().unwrap();
    let told: Vec<_> = choices
        .iter()
        .map(|choice| (choice["index"].as_u64().unwrap(), &choice["message"]["content"]))
        .collect();
    assert_eq!(told, [(0, &json!("a")), (1, &json!("b c")), (2, &json!("d"))]);
    assert!(choices.iter().all(|choice| choice["finish_reason"] == "stop" && choice["logprobs"].is_null()));
    assert_eq!(answer["usage"], json!({"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7}));

    let seeds: Vec<u64> = small.asked.lock().iter().map(|request| request.sampling.seed.unwrap()).collect();
    assert_eq!(seeds[0], 5, "the first is what the seed alone gives");
    assert!(seeds[1] != seeds[0] && seeds[2] != seeds[1] && seeds[2] != seeds[0], "{seeds:?}");
    stage.settled().await;
    let stats = stage.state.cache().unwrap().stats();
    assert_eq!((stats.examples, stats.answers), (0, 0), "neither stored nor an example");
}

#[tokio::test]
async fn streamed_choices_have_their_index() {
    let small = Scripted::new("small", 0.1, &[Play::Say("a b c "), Play::Say("d e ")]);
    let stage = Stage::new(PolicyKind::SmallPlain, &[&small]);
    let body = ask(json!({"n": 2, "stream": true, "stream_options": {"include_usage": true}}));
    let events = text(stage.send(&body, &[]).await).await;
    assert!(events.trim_end().ends_with("data: [DONE]") && events.matches("[DONE]").count() == 1);
    let chunks = chunks(&events);
    for (index, expected) in [(0, "a b c "), (1, "d e ")] {
        let of_choice: Vec<&Value> = chunks
            .iter()
            .map(|chunk| &chunk["choices"][0])
            .filter(|choice| choice["index"] == index)
            .collect();
        assert_eq!(of_choice[0]["delta"]["role"], "assistant");
        let text: String =
            of_choice.iter().filter_map(|choice| choice["delta"]["content"].as_str()).collect();
        assert_eq!(text, expected);
        assert_eq!(of_choice.last().unwrap()["finish_reason"], "stop");
        assert_eq!(of_choice.iter().filter(|choice| !choice["finish_reason"].is_null()).count(), 1);
    }
    assert_eq!(chunks.last().unwrap()["usage"]["completion_tokens"], 5);
}

#[tokio::test]
async fn choices_are_cancelled_together() {
    let small = Scripted::new("small", 0.1, &[Play::Hang("one"), Play::Hang("two")]);
    let stage = Stage::new(PolicyKind::SmallPlain, &[&small]);
    let response = stage.send(&ask(json!({"n": 2, "stream": true})), &[]).await;
    assert_eq!(response.status().as_u16(), 200);
    assert!(small.hanging.lock().iter().all(|sender| !sender.is_cancelled()));
    drop(response);
    assert_eq!(small.hanging.lock().iter().filter(|sender| sender.is_cancelled()).count(), 2);

    // One that breaks off takes the others with it, and another tier gives all of them.
    let small = Scripted::new("small", 0.1, &[Play::Hang("one"), Play::Break("two", broken())]);
    let large = Scripted::new("large", 1.0, &[Play::Say("blue")]);
    let stage = Stage::new(PolicyKind::SmallPlain, &[&small, &large]);
    let answer = json(stage.send(&ask(json!({"n": 2})), &[]).await).await;
    let told: Vec<&Value> =
        answer["choices"].as_array().unwrap().iter().map(|choice| &choice["message"]["content"]).collect();
    assert_eq!(told, ["blue", "blue"]);
    assert!(small.hanging.lock()[0].is_cancelled());
}

#[tokio::test]
async fn logprobs_are_told_and_never_lost_in_the_store() {
    let small = Scripted::new("small", 0.1, &[Play::Say("it is")]);
    let stage = Stage::new(PolicyKind::SmallPlain, &[&small]);
    let plain = json(stage.send(&ask(json!({})), &[]).await).await;
    assert!(plain["choices"][0]["logprobs"].is_null());
    let with = ask(json!({"logprobs": true, "top_logprobs": 1}));
    let entry = |token: &str| {
        json!({"token": token, "logprob": -0.25, "bytes": token.as_bytes(),
               "top_logprobs": [{"token": token, "logprob": -0.25, "bytes": token.as_bytes()}]})
    };
    let expected = json!({"content": [entry("it "), entry("is")], "refusal": null});
    // Neither the plain answer serves it, nor does one of these serve the next.
    for _ in 0..2 {
        let answer = json(stage.send(&with, &[]).await).await;
        assert_eq!(answer["choices"][0]["logprobs"], expected);
    }
    assert_eq!(small.asked.lock().len(), 3);
    assert_eq!(small.asked.lock()[2].sampling.logprobs, Some(1));

    let mut streamed = with;
    streamed["stream"] = true.into();
    let chunks = chunks(&text(stage.send(&streamed, &[]).await).await);
    let told: Vec<Value> = chunks
        .iter()
        .flat_map(|chunk| chunk["choices"][0]["logprobs"]["content"].as_array().cloned().unwrap_or_default())
        .collect();
    assert_eq!(json!(told), expected["content"]);
    assert!(
        chunks[0]["choices"][0]["logprobs"].is_null()
            && chunks.last().unwrap()["choices"][0]["logprobs"].is_null()
    );
}

#[tokio::test]
async fn the_policy_reuse_has_no_logprobs_and_only_one_answer() {
    let small = Scripted::new("small", 0.1, &[Play::Say("blue")]);
    let stage = Stage::new(PolicyKind::Reuse, &[&small]);
    stage.send(&ask(json!({})), &[]).await;
    stage.settled().await;
    for fields in [json!({"logprobs": true}), json!({"n": 2})] {
        let asked = small.asked.lock().len();
        stage.send(&ask(fields.clone()), &[]).await;
        assert!(small.asked.lock().len() > asked, "{fields}");
    }
}

#[tokio::test]
async fn a_bias_needs_a_named_model_where_there_are_several() {
    let small = Scripted::new("small", 0.1, &[Play::Say("blue")]);
    let large = Scripted::new("large", 1.0, &[Play::Say("blue")]);
    let stage = Stage::new(PolicyKind::SmallExamples, &[&small, &large]);
    let mut body = ask(json!({"logit_bias": {"7": -100, "5": 1}}));
    let refused = stage.send(&body, &[]).await;
    assert_eq!(refused.status().as_u16(), 400);
    assert_eq!(json(refused).await["error"]["param"], "logit_bias");
    body["model"] = "small".into();
    assert_eq!(stage.send(&body, &[]).await.status().as_u16(), 200);
    assert_eq!(small.asked.lock()[0].sampling.logit_bias, [(5, 1.0), (7, -100.0)]);
    stage.settled().await;
    assert_eq!(stage.state.cache().unwrap().stats().examples, 0, "a biased answer is no example");
}
