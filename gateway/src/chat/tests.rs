use std::time::Duration;

use axum::response::Response;
use reprise_router::PolicyKind;
use reprise_tier::TierError;
use serde_json::{Value, json};

use super::scripted::{Play, Scripted, Stage, json, text};

const QUESTION: &str = "which colour has the sky at noon";
const NEAR: &str = "which colour has the sky at night";

fn ask(model: &str, question: &str) -> Value {
    json!({"model": model, "temperature": 0, "messages": [{"role": "user", "content": question}]})
}

fn streamed(model: &str, question: &str) -> Value {
    let mut body = ask(model, question);
    body["stream"] = true.into();
    body
}

fn broken() -> TierError {
    TierError::Internal { message: "as the script says".into() }
}

fn header<'a>(response: &'a Response, name: &str) -> &'a str {
    response.headers().get(name).map_or("", |value| value.to_str().unwrap())
}

fn content(answer: &Value) -> &str {
    answer["choices"][0]["message"]["content"].as_str().unwrap_or_default()
}

#[tokio::test]
async fn another_tier_takes_over_before_the_first_word() {
    for play in [
        Play::Refuse(TierError::Overloaded { retry_after: Duration::from_secs(1) }),
        Play::Refuse(TierError::NotReady { reason: String::new() }),
        Play::Fail(broken()),
    ] {
        let small = Scripted::new("small", 0.1, &[play]);
        let large = Scripted::new("large", 1.0, &[Play::Say("blue")]);
        let stage = Stage::new(PolicyKind::SmallPlain, &[&small, &large]);
        for body in [ask("auto", QUESTION), streamed("auto", NEAR)] {
            let response = stage.send(&body, &[]).await;
            assert_eq!((response.status().as_u16(), header(&response, "x-reprise-tier")), (200, "large"));
            assert!(text(response).await.contains("blue"));
        }
    }
}

#[tokio::test]
async fn a_pinned_tier_is_not_replaced() {
    let small = Scripted::new(
        "small",
        0.1,
        &[Play::Refuse(TierError::Overloaded { retry_after: Duration::from_secs(3) })],
    );
    let large = Scripted::new("large", 1.0, &[Play::Say("blue")]);
    let response = Stage::new(PolicyKind::Bandit, &[&small, &large]).send(&ask("small", QUESTION), &[]).await;
    assert_eq!((response.status().as_u16(), header(&response, "retry-after")), (429, "3"));
    assert_eq!(large.asked.lock().len(), 0);
}

#[tokio::test]
async fn an_answer_as_json_that_breaks_off_is_begun_anew_elsewhere() {
    let small = Scripted::new("small", 0.1, &[Play::Break("gre", broken())]);
    let large = Scripted::new("large", 1.0, &[Play::Say("blue")]);
    let stage = Stage::new(PolicyKind::SmallPlain, &[&small, &large]);
    let response = stage.send(&ask("auto", QUESTION), &[]).await;
    assert_eq!(header(&response, "x-reprise-tier"), "large");
    assert_eq!(content(&json(response).await), "blue");
}

#[tokio::test]
async fn a_stream_that_breaks_off_says_so_and_is_not_remembered() {
    let small = Scripted::new("small", 0.1, &[Play::Break("gre", broken()), Play::Say("blue")]);
    let stage = Stage::new(PolicyKind::SmallPlain, &[&small]);
    let events = text(stage.send(&streamed("auto", QUESTION), &[]).await).await;
    assert!(events.contains("gre") && events.contains("\"error\""), "{events}");
    assert!(!events.contains("[DONE]") && !events.contains("\"finish_reason\":\"stop\""), "{events}");
    let record = &stage.state.decisions.newest(1)[0];
    assert_eq!(record.status, 500);
    let again = stage.send(&ask("auto", QUESTION), &[]).await;
    assert_eq!(header(&again, "x-reprise-cache"), "MISS");
}

#[tokio::test]
async fn a_repeat_is_a_hit_and_a_near_one_shows_examples() {
    let small = Scripted::new("small", 0.1, &[Play::Say("it is blue")]);
    let stage = Stage::new(PolicyKind::SmallExamples, &[&small]);
    let first = stage.send(&ask("auto", QUESTION), &[]).await;
    assert_eq!(header(&first, "x-reprise-cache"), "MISS");
    let first = json(first).await;
    // At once: not after some background task.
    let again = stage.send(&streamed("auto", QUESTION), &[]).await;
    assert_eq!(
        (header(&again, "x-reprise-cache"), header(&again, "x-reprise-similarity")),
        ("HIT", "1.0000")
    );
    assert!(text(again).await.contains("it is blue"));
    assert_eq!(small.asked.lock().len(), 1);

    stage.settled().await;
    let near = stage.send(&ask("auto", NEAR), &[]).await;
    assert_eq!((header(&near, "x-reprise-cache"), header(&near, "x-reprise-examples")), ("EXAMPLES", "1"));
    let shown = small.asked.lock().last().unwrap().messages.clone();
    let shown: Vec<&str> = shown.iter().map(|message| message.content.as_str()).collect();
    assert_eq!(shown, [QUESTION, content(&first), NEAR]);
    let record = stage.state.decisions.find(header(&near, "x-request-id")).unwrap();
    assert!(record.decision.is_some() && record.examples.len() == 1);
    assert!(record.arm.as_ref().unwrap().examples);
}

#[tokio::test]
async fn examples_that_do_not_fit_are_left_out() {
    let too_long = TierError::ContextExceeded { prompt_tokens: 9, max_tokens: 0, context_length: 8 };
    let small = Scripted::new("small", 0.1, &[Play::Say("blue"), Play::Fail(too_long), Play::Say("black")]);
    let stage = Stage::new(PolicyKind::SmallExamples, &[&small]);
    stage.send(&ask("auto", QUESTION), &[]).await;
    stage.settled().await;
    let near = stage.send(&ask("auto", NEAR), &[]).await;
    assert_eq!((header(&near, "x-reprise-cache"), header(&near, "x-reprise-examples")), ("MISS", "0"));
    assert_eq!(content(&json(near).await), "black");
    let lengths: Vec<usize> = small.asked.lock().iter().map(|request| request.messages.len()).collect();
    assert_eq!(lengths, [1, 3, 1]);
}

#[tokio::test]
async fn a_prompt_over_every_context_is_the_clients_fault() {
    let too_long = TierError::ContextExceeded { prompt_tokens: 9, max_tokens: 0, context_length: 8 };
    let small = Scripted::new("small", 0.1, &[Play::Fail(too_long.clone())]);
    let large = Scripted::new("large", 1.0, &[Play::Fail(too_long)]);
    let stage = Stage::new(PolicyKind::SmallPlain, &[&small, &large]);
    let response = stage.send(&ask("auto", QUESTION), &[]).await;
    assert_eq!(response.status().as_u16(), 400);
    assert_eq!(json(response).await["error"]["code"], "context_length_exceeded");
    assert_eq!(large.asked.lock().len(), 1, "it has the longer context");
    assert_eq!(stage.state.metrics.tier_errors.with_label_values(&["small", "context_exceeded"]).get(), 0);
}

#[tokio::test]
async fn a_client_that_goes_away_cancels_a_stream_and_a_json_answer() {
    let small = Scripted::new("small", 0.1, &[Play::Hang("once")]);
    let stage = Stage::new(PolicyKind::SmallPlain, &[&small]);
    let response = stage.send(&streamed("auto", QUESTION), &[]).await;
    assert_eq!(response.status().as_u16(), 200);
    assert_eq!(stage.state.metrics.open_streams.get(), 1);
    drop(response);
    assert_eq!(stage.state.metrics.open_streams.get(), 0);

    let body = ask("auto", QUESTION);
    let json = tokio::time::timeout(Duration::from_millis(50), stage.send(&body, &[])).await;
    assert!(json.is_err(), "it hangs");
    let hanging = small.hanging.lock();
    assert_eq!(hanging.iter().map(|sender| sender.is_cancelled()).collect::<Vec<_>>(), [true, true]);
    let statuses: Vec<u16> = stage.state.decisions.newest(9).iter().map(|record| record.status).collect();
    assert_eq!(statuses, [499, 499]);
}

#[tokio::test]
async fn a_cache_that_is_late_is_passed_by() {
    let small = Scripted::new("small", 0.1, &[Play::Say("cheap")]);
    let large = Scripted::new("large", 1.0, &[Play::Say("dear")]);
    let stage = Stage::with(PolicyKind::SmallPlain, &[&small, &large], true, |_| ());
    let response = stage.send(&ask("auto", QUESTION), &[]).await;
    assert_eq!(header(&response, "x-reprise-tier"), "large", "the default tier");
    assert_eq!(stage.state.metrics.router_straight.with_label_values(&["deadline"]).get(), 1);
    let pinned = stage.send(&ask("small", NEAR), &[]).await;
    assert_eq!(header(&pinned, "x-reprise-tier"), "small", "who names a tier gets it");
}

#[tokio::test]
async fn a_panic_is_an_error_of_ours_and_is_counted() {
    let small = Scripted::new("small", 0.1, &[Play::Panic, Play::Say("blue")]);
    let stage = Stage::new(PolicyKind::SmallPlain, &[&small]);
    let response = stage.send(&ask("auto", QUESTION), &[]).await;
    assert_eq!(response.status().as_u16(), 500);
    assert_eq!(json(response).await["error"]["code"], "internal_error");
    assert_eq!(stage.state.metrics.panics.get(), 1);
    assert_eq!(stage.send(&ask("auto", QUESTION), &[]).await.status().as_u16(), 200);
}

#[tokio::test]
async fn a_client_may_keep_its_answer_out_of_the_cache() {
    for header_pair in
        [("cache-control", "no-store"), ("x-reprise-cache", "read-only"), ("x-reprise-cache", "off")]
    {
        let small = Scripted::new("small", 0.1, &[Play::Say("blue")]);
        let stage = Stage::new(PolicyKind::SmallExamples, &[&small]);
        stage.send(&ask("auto", QUESTION), &[header_pair]).await;
        stage.settled().await;
        let stats = stage.state.cache().unwrap().stats();
        assert_eq!((stats.examples, stats.answers), (0, 0), "{header_pair:?}");
    }
}

#[tokio::test]
async fn the_policy_reuse_returns_the_nearest_answer() {
    let small = Scripted::new("small", 0.1, &[Play::Say("blue")]);
    let stage = Stage::new(PolicyKind::Reuse, &[&small]);
    stage.send(&ask("auto", QUESTION), &[]).await;
    stage.settled().await;
    let near = stage.send(&ask("auto", NEAR), &[]).await;
    assert_eq!(header(&near, "x-reprise-cache"), "HIT");
    assert!(header(&near, "x-reprise-similarity").parse::<f32>().unwrap() < 1.0);
    assert_eq!(content(&json(near).await), "blue");
    assert_eq!(small.asked.lock().len(), 1);
}

#[tokio::test]
async fn more_than_the_slots_are_turned_away() {
    let small = Scripted::new("small", 0.1, &[Play::Hang("once")]);
    let stage = Stage::with(PolicyKind::SmallPlain, &[&small], false, |config| {
        config.server.max_concurrent_requests = 1;
    });
    let first = stage.send(&streamed("auto", QUESTION), &[]).await;
    let second = stage.send(&streamed("auto", QUESTION), &[]).await;
    assert_eq!((second.status().as_u16(), header(&second, "retry-after")), (429, "1"));
    drop(first);
    assert_eq!(stage.send(&streamed("auto", QUESTION), &[]).await.status().as_u16(), 200);
}

#[tokio::test]
async fn what_only_a_remote_tier_can_do_is_refused_by_name() {
    let small = Scripted::new("small", 0.1, &[Play::Say("blue")]);
    let stage = Stage::new(PolicyKind::SmallPlain, &[&small]);
    let mut tools = ask("auto", QUESTION);
    tools["tools"] = json!([{"type": "custom", "custom": {"name": "f"}}]);
    let image = json!({"model": "small", "messages": [{"role": "user", "content": [{"type": "image_url"}]}]});
    for (body, param) in [(tools, "tools[0].type"), (image, "messages[0].content")] {
        let response = stage.send(&body, &[]).await;
        assert_eq!(response.status().as_u16(), 400);
        assert_eq!(json(response).await["error"]["param"], param);
    }
}

#[tokio::test]
async fn without_keys_a_page_in_the_browser_is_nobody() {
    let small = Scripted::new("small", 0.1, &[Play::Say("blue")]);
    let stage = Stage::new(PolicyKind::SmallPlain, &[&small]);
    for foreign in
        [("host", "evil.example"), ("origin", "https://evil.example"), ("x-forwarded-for", "10.0.0.1")]
    {
        let response = stage.send(&ask("auto", QUESTION), &[foreign]).await;
        assert_eq!(response.status().as_u16(), 403, "{foreign:?}");
        assert_eq!(json(response).await["error"]["type"], "permission_error");
    }
    assert_eq!(small.asked.lock().len(), 0);
}
