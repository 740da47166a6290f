//! Curation again and again over the same memory: each night finds less to mend and asks less, until none is left that pays.

use reprise_replay::curate::{RunReport, Stop};
use serde_json::{Value, json};

use crate::curate::{asked_about, curation, example, run};
use crate::fake::{Asked, Fake, whole};

/// The best tier knows `sure` at once and `late` from its fifth draw on; of all else it says something new each time.
fn tier(asked: &Asked) -> wiremock::ResponseTemplate {
    let seed = asked.body["seed"].as_u64().unwrap_or_default();
    match asked.prompt.as_str() {
        prompt if prompt.contains("sure") => whole("Paris"),
        prompt if prompt.contains("late") && seed >= 4 => whole("Paris"),
        _ => whole(&format!("Lyon {seed}")),
    }
}

/// Used once in the hour it has lived, so 24 times in the day ahead: with four asks, 6 times its gain is what a replay saves for each token.
fn used_once(id: &str, gain: f64) -> Value {
    let mut example = example(id, "Nice", gain);
    example["uses"] = json!(1);
    example
}

fn told(report: &RunReport) -> (usize, usize, u64, Stop) {
    (report.replayed, report.improved.len(), report.tokens_spent, report.stopped_because)
}

#[tokio::test]
async fn each_night_asks_less_and_the_third_asks_nothing() {
    let fake = Fake::start(tier).await;
    fake.state(|state| {
        state.examples = vec![used_once("sure-1", 0.6), used_once("sure-2", 0.55), used_once("late", 0.45)];
        state.examples.extend((0..4).map(|i| used_once(&format!("never-{i}"), 0.3)));
        state.examples.push(used_once("cheap", 0.1));
    });
    let dir = tempfile::tempdir().unwrap();
    let curation = curation(dir.path());
    // All but `cheap`, which would save 0.6 tokens for each that it costs.
    let first = run(&fake, &curation).await.unwrap();
    assert_eq!(told(&first), (7, 2, 7 * 60, Stop::SavingBelowCost));
    // Whatever stood has half the chance: 0.9 tokens for each, but for `late`, which is now better.
    let second = run(&fake, &curation).await.unwrap();
    assert_eq!(told(&second), (1, 1, 60, Stop::SavingBelowCost));
    assert_eq!(second.improved[0].id, "late");
    let third = run(&fake, &curation).await.unwrap();
    assert_eq!(told(&third), (0, 0, 0, Stop::SavingBelowCost));
    assert_eq!(asked_about(&fake, "cheap"), 0);
}

#[tokio::test]
async fn a_tier_that_has_nothing_to_add_is_not_asked_about_all() {
    let fake = Fake::start(tier).await;
    fake.state(|state| state.examples = (0..40).map(|i| used_once(&format!("never-{i}"), 0.52)).collect());
    let dir = tempfile::tempdir().unwrap();
    // Three tokens saved for each that is spent, if the replay finds a better answer: nine that did not are enough.
    let report = run(&fake, &curation(dir.path())).await.unwrap();
    assert_eq!(told(&report), (9, 0, 9 * 60, Stop::SavingBelowCost));
}

#[tokio::test]
async fn nothing_is_replayed_more_than_five_times_and_no_question_is_put_twice_alike() {
    let fake = Fake::start(tier).await;
    fake.state(|state| state.examples = vec![example("never", "Nice", 1.0)]);
    let dir = tempfile::tempdir().unwrap();
    let curation = curation(dir.path());
    for night in 1..=7 {
        let report = run(&fake, &curation).await.unwrap();
        assert_eq!(report.replayed, usize::from(night <= 5), "night {night}");
        assert_eq!(report.skipped.contains_key("replayed often enough"), night > 5);
    }
    let asked: Vec<(u64, f64)> = fake.state(|state| {
        let told =
            |chat: &Asked| (chat.body["seed"].as_u64().unwrap(), chat.body["temperature"].as_f64().unwrap());
        state.chats.iter().map(told).collect()
    });
    assert_eq!(asked.iter().map(|(seed, _)| *seed).collect::<Vec<_>>(), (0..20).collect::<Vec<_>>());
    assert_eq!(asked.iter().filter(|(_, temperature)| *temperature == 0.0).count(), 1);
}
