//! What is done about tiers that are slow, busy or failing, with tiers that do as they are told.

use std::time::Duration;

use reprise_router::{BreakerConfig, PolicyKind};
use reprise_tier::TierError;
use serde_json::{Value, json};

use super::scripted::{Play, Scripted, Stage, text};

fn ask(model: &str, question: &str) -> Value {
    json!({"model": model, "messages": [{"role": "user", "content": question}]})
}

fn broken() -> TierError {
    TierError::Internal { message: "as the script says".into() }
}

#[tokio::test]
async fn who_would_wait_too_long_is_told_when_to_come_back() {
    let small = Scripted::new("small", 0.1, &[Play::Say("green")]);
    let large = Scripted::new("large", 1.0, &[Play::Say("blue")]);
    let stage = Stage::with(PolicyKind::LargePlain, &[&small, &large], false, |config| {
        config.resilience.longest_wait = Duration::from_secs(60);
    });
    *large.queued_seconds.lock() = 100.0;
    let pinned = stage.send(&ask("large", "q"), &[]).await;
    assert_eq!(pinned.status().as_u16(), 429);
    assert_eq!(pinned.headers()["retry-after"], "40", "when the wait is as long as is borne");
    let routed = stage.send(&ask("auto", "q"), &[]).await;
    assert_eq!(
        (routed.status().as_u16(), &routed.headers()["x-reprise-tier"]),
        (200, &"small".parse().unwrap())
    );
    let patient = stage.send(&ask("large", "q"), &[("x-reprise-priority", "batch")]).await;
    assert_eq!(patient.status().as_u16(), 200);
    *small.queued_seconds.lock() = 61.0;
    let both = stage.send(&ask("auto", "q"), &[]).await;
    assert_eq!((both.status().as_u16(), &both.headers()["retry-after"]), (429, &"1".parse().unwrap()));
    *large.queued_seconds.lock() = 0.0;
    assert_eq!(stage.send(&ask("auto", "q"), &[]).await.status().as_u16(), 200);
}

#[tokio::test]
async fn a_broken_tier_is_spared_and_the_others_answer() {
    let small = Scripted::new("small", 0.1, &[Play::Say("green")]);
    let large = Scripted::new("large", 1.0, &[Play::Fail(broken())]);
    let stage = Stage::with(PolicyKind::LargePlain, &[&small, &large], false, |config| {
        let hour = Duration::from_secs(3600);
        config.resilience.breaker = BreakerConfig { failures: 3, open: hour, longest: hour };
    });
    for round in 0..6 {
        let response = stage.send(&ask("auto", &format!("question {round}")), &[]).await;
        assert_eq!(response.status().as_u16(), 200);
        assert!(text(response).await.contains("green"));
    }
    assert_eq!(large.asked.lock().len(), 3);
    let pinned = stage.send(&ask("large", "q"), &[]).await;
    assert_eq!(pinned.status().as_u16(), 503);
    assert!(pinned.headers().contains_key("retry-after"));
    assert_eq!(large.asked.lock().len(), 3);
}

/// A client's mistakes and a full queue say nothing against a tier.
#[tokio::test]
async fn not_every_error_speaks_against_a_tier() {
    let refusal = TierError::InvalidRequest { param: "temperature".into(), message: "too hot".into() };
    let full = TierError::Overloaded { retry_after: Duration::from_secs(1) };
    for error in [refusal, full] {
        let small = Scripted::new("small", 0.1, &[Play::Fail(error)]);
        let stage = Stage::with(PolicyKind::SmallPlain, &[&small], false, |config| {
            config.resilience.breaker.failures = 1;
        });
        for _ in 0..4 {
            let _ = stage.send(&ask("small", "q"), &[]).await;
        }
        assert_eq!(small.asked.lock().len(), 4);
    }
}

/// Every choice of a prompt is counted, the prompt once.
#[tokio::test]
async fn what_was_cut_off_is_settled_for_what_was_generated() {
    let small = Scripted::new("small", 0.1, &[Play::Hang("word ")]);
    let stage = Stage::new(PolicyKind::SmallPlain, &[&small]);
    let mut body = ask("small", "q");
    (body["stream"], body["n"], body["max_tokens"]) = (true.into(), 3.into(), 50.into());
    let response = stage.send(&body, &[]).await;
    assert!(stage.state.desk.usage().iter().all(|(_, _, reserved)| reserved.tokens >= 150));
    drop(response);
    let usage = stage.state.desk.usage();
    let (_, [_, _, ever], reserved) = &usage[0];
    assert_eq!((ever.prompt_tokens, ever.completion_tokens, reserved.tokens), (3, 3, 0), "{usage:?}");
}
