use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use reprise_replay::curate::judge::{Agreement, SideBySide};
use reprise_replay::curate::{self, CurateError, Curation, Judge, RunReport, Stop};
use serde_json::{Value, json};
use tokio::process::Command;
use tokio_util::sync::CancellationToken;

use crate::fake::{Fake, after, error, whole};

/// Used a hundred times in the hour it has lived.
pub fn example(id: &str, answer: &str, gain: f64) -> Value {
    json!({"id": id, "tenant": "default", "request": format!("capital of {id}?"), "answer": answer,
        "source_tier": "small", "quality": null, "created_at_ms": jiff::Timestamp::now().as_millisecond(),
        "replay_gain": gain, "uses": 100, "replays": 0, "context_free": true})
}

pub fn curation(state_dir: &Path) -> Curation {
    Curation {
        tenants: vec!["default".into()],
        samples: 3,
        temperature: 0.8,
        max_tokens: 64,
        budget_tokens: None,
        horizon_h: 24.0,
        max_replays: 5,
        max_candidates: 1000,
        replace_imported: false,
        idle_wait: Duration::ZERO,
        lease_ttl: Duration::from_secs(60),
        holder: "test".into(),
        state_dir: state_dir.to_owned(),
        request_timeout: Duration::from_secs(30),
    }
}

pub async fn run(fake: &Fake, curation: &Curation) -> Result<RunReport, CurateError> {
    let judge: Arc<dyn Judge> = Arc::new(Agreement::default());
    curate::run(&fake.gateway(), curation, &judge, &CancellationToken::new()).await
}

pub fn asked_about(fake: &Fake, id: &str) -> usize {
    fake.state(|state| state.chats.iter().filter(|chat| chat.prompt == format!("capital of {id}?")).count())
}

fn binary(fake: &Fake, state_dir: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_reprise-replay"));
    command
        .args(["curate", "--once", "--json", "--gateway", &fake.server.uri(), "--state-dir"])
        .arg(state_dir)
        .env_remove("REPRISE_ADMIN_KEY")
        .env_remove("REPRISE_API_KEY")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    command
}

#[tokio::test]
async fn it_improves_what_is_worse_and_says_which() {
    let fake = Fake::start(|_| whole("Paris")).await;
    fake.state(|state| {
        let mut tired = example("tired", "Lyon", 0.9);
        tired["replays"] = json!(5);
        let mut imported = example("imported", "Lyon", 0.9);
        imported["source_tier"] = json!("reference");
        let mut conversation = example("conversation", "Lyon", 0.9);
        conversation["context_free"] = json!(false);
        let mut corrected = example("corrected", "Lyon", 0.3);
        corrected["quality"] = json!(1.0);
        state.examples = vec![
            example("wrong", "Lyon", 0.5),
            example("right", "paris.", 0.4),
            tired,
            imported,
            conversation,
            corrected,
        ];
    });
    let dir = tempfile::tempdir().unwrap();
    let report = run(&fake, &curation(dir.path())).await.unwrap();

    assert_eq!((report.considered, report.replayed), (3, 3));
    let improved: Vec<&str> = report.improved.iter().map(|improvement| improvement.id.as_str()).collect();
    assert_eq!(improved, ["wrong"]);
    let improvement = &report.improved[0];
    assert_eq!((improvement.old_answer.as_str(), improvement.new_answer.as_str()), ("Lyon", "Paris"));
    assert_eq!((improvement.old_quality, improvement.new_quality), (Some(0.2), Some(0.8)));
    assert_eq!(report.stopped_because, Stop::NoCandidateLeft);
    // Three examples, four asks each, 15 tokens an ask.
    assert_eq!(report.tokens_spent, 180);
    assert_eq!(report.skipped.values().sum::<usize>(), 3);
    assert!(report.to_string().contains("improved wrong (tenant default): quality 0.20 to 0.80"), "{report}");

    fake.state(|state| {
        let of = |id: &str| state.examples.iter().find(|example| example["id"] == id).unwrap();
        assert_eq!((&of("wrong")["answer"], &of("wrong")["source_tier"]), (&json!("Paris"), &json!("large")));
        // What stood is only counted.
        assert_eq!((&of("right")["answer"], &of("right")["replays"]), (&json!("paris."), &json!(1)));
        assert_eq!((&of("corrected")["answer"], &of("corrected")["quality"]), (&json!("Lyon"), &json!(1.0)));
        let temperatures: Vec<f64> =
            state.chats[..4].iter().map(|chat| chat.body["temperature"].as_f64().unwrap()).collect();
        assert_eq!(temperatures, [0.0, 0.8, 0.8, 0.8]);
        for chat in &state.chats {
            assert_eq!((&chat.body["model"], &chat.body["stream"]), (&json!("large"), &json!(false)));
            assert_eq!(chat.headers["x-reprise-cache"], "off");
            assert_eq!(chat.headers["x-reprise-priority"], "batch");
        }
        assert_eq!(state.runs.len(), 1);
        assert_eq!(state.runs[0]["improved"][0]["id"], "wrong");
        assert_eq!(state.runs[0]["stopped_because"], "no_candidate_left");
        assert_eq!((state.lease.clone(), state.leases_released), (None, 1));
    });
}

#[tokio::test]
async fn a_second_one_is_refused_and_does_nothing() {
    let fake = Fake::start(|_| whole("Paris")).await;
    fake.state(|state| {
        state.lease = Some("cron on host a".into());
        state.examples = vec![example("wrong", "Lyon", 0.5)];
    });
    let dir = tempfile::tempdir().unwrap();
    let output = binary(&fake, dir.path()).output().await.unwrap();
    assert_eq!(output.status.code(), Some(3));
    assert!(String::from_utf8_lossy(&output.stderr).contains("cron on host a"));
    fake.state(|state| {
        assert!(state.chats.is_empty() && state.patches.is_empty() && state.runs.is_empty());
        assert_eq!(state.lease.as_deref(), Some("cron on host a"));
    });
}

#[tokio::test]
async fn a_killed_run_goes_on_without_asking_again() {
    // The second example's first answer never comes.
    let fake = Fake::start(|asked| after(if asked.index == 4 { 60_000 } else { 0 }, whole("Paris"))).await;
    fake.state(|state| state.examples = vec![example("first", "Lyon", 0.5), example("second", "Nice", 0.4)]);
    let dir = tempfile::tempdir().unwrap();
    let mut killed = binary(&fake, dir.path()).spawn().unwrap();
    while asked_about(&fake, "second") == 0 {
        assert!(killed.try_wait().unwrap().is_none(), "it ended by itself");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    killed.kill().await.unwrap();
    // The gateway lets the lease of a dead holder expire.
    fake.state(|state| state.lease = None);

    let output = binary(&fake, dir.path()).output().await.unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let report: RunReport = serde_json::from_slice(&output.stdout).unwrap();
    assert!(report.resumed);
    let improved: Vec<&str> = report.improved.iter().map(|improvement| improvement.id.as_str()).collect();
    assert_eq!(improved, ["first", "second"], "what the killed run had done is reported by the next");
    assert_eq!(asked_about(&fake, "first"), 4);
    assert_eq!(asked_about(&fake, "second"), 5, "the one that was cut off, and four");
    assert_eq!(fake.state(|state| state.patches.len()), 2);
}

#[tokio::test]
async fn a_decision_that_did_not_reach_the_gateway_is_sent_by_the_next_run() {
    let fake = Fake::start(|_| whole("Paris")).await;
    fake.state(|state| state.examples = vec![example("first", "Lyon", 0.5)]);
    let dir = tempfile::tempdir().unwrap();
    run(&fake, &curation(dir.path())).await.unwrap();
    // Take back what came after the decision, as if the run had died there.
    let journal = std::fs::read_dir(dir.path()).unwrap().next().unwrap().unwrap().path();
    let text = std::fs::read_to_string(&journal).unwrap();
    let until = text.find("{\"event\":\"finished\"").unwrap();
    std::fs::write(&journal, &text[..until]).unwrap();
    fake.state(|state| {
        state.examples = vec![example("first", "Lyon", 0.5)];
        state.chats.clear();
    });
    let report = run(&fake, &curation(dir.path())).await.unwrap();
    assert_eq!(report.improved.len(), 1);
    assert_eq!(report.tokens_spent, 60);
    fake.state(|state| {
        assert!(state.chats.is_empty(), "nothing is asked again");
        assert_eq!(state.examples[0]["answer"], "Paris");
    });
}

#[tokio::test]
async fn it_stops_at_its_budget_and_the_next_run_goes_on() {
    let fake = Fake::start(|_| whole("Paris")).await;
    fake.state(|state| {
        state.examples =
            (0..4).map(|i| example(&format!("e{i}"), "Lyon", 0.5 - f64::from(i) / 10.0)).collect();
    });
    let dir = tempfile::tempdir().unwrap();
    let mut curation = curation(dir.path());
    // One example costs 60; a second would go over.
    curation.budget_tokens = Some(70);
    let report = run(&fake, &curation).await.unwrap();
    assert_eq!((report.replayed, report.tokens_spent, report.stopped_because), (1, 60, Stop::Budget));
    curation.budget_tokens = None;
    let report = run(&fake, &curation).await.unwrap();
    assert!(report.resumed);
    assert_eq!((report.replayed, report.tokens_spent), (3, 180));
    assert_eq!((0..4).map(|i| asked_about(&fake, &format!("e{i}"))).collect::<Vec<_>>(), [4, 4, 4, 4]);
}

#[tokio::test]
async fn it_stops_where_the_expected_saving_falls_below_the_cost() {
    let fake = Fake::start(|_| whole("Paris")).await;
    fake.state(|state| {
        let mut rare = example("rare", "Lyon", 0.9);
        rare["uses"] = json!(0);
        state.examples = vec![rare, example("often", "Lyon", 0.2)];
    });
    let dir = tempfile::tempdir().unwrap();
    let report = run(&fake, &curation(dir.path())).await.unwrap();
    assert_eq!((report.replayed, report.stopped_because), (1, Stop::SavingBelowCost));
    assert_eq!((asked_about(&fake, "often"), asked_about(&fake, "rare")), (4, 0));
}

#[tokio::test]
async fn a_busy_pool_or_a_failing_gateway_ends_it() {
    let fake = Fake::start(|_| error(503, "no room")).await;
    fake.state(|state| {
        state.examples = (0..9).map(|i| example(&format!("e{i}"), "Lyon", 0.5)).collect();
        state.busy = true;
    });
    let dir = tempfile::tempdir().unwrap();
    let report = run(&fake, &curation(dir.path())).await.unwrap();
    assert_eq!((report.stopped_because, report.replayed), (Stop::PoolBusy, 0));
    fake.state(|state| state.busy = false);
    let report = run(&fake, &curation(dir.path())).await.unwrap();
    assert_eq!(report.stopped_because, Stop::GatewayFails);
    assert_eq!(
        fake.state(|state| (state.chats.len(), state.patches.len(), state.leases_released)),
        (3, 0, 2)
    );
}

#[tokio::test]
async fn feedback_that_came_meanwhile_is_not_overwritten() {
    let fake = Fake::start(|_| whole("Paris")).await;
    fake.state(|state| state.examples = vec![example("e", "Lyon", 0.5)]);
    let dir = tempfile::tempdir().unwrap();
    let state = Arc::clone(&fake.state);
    let judge: Arc<dyn Judge> = Arc::new(Meddler { inner: Agreement::default(), state });
    let report =
        curate::run(&fake.gateway(), &curation(dir.path()), &judge, &CancellationToken::new()).await.unwrap();
    assert!(report.improved.is_empty());
    assert_eq!(report.skipped.get("it changed meanwhile"), Some(&1));
    assert_eq!(fake.state(|state| state.examples[0]["answer"].clone()), "Marseille");
}

/// Corrects the example while the judge reads.
#[derive(Debug)]
struct Meddler {
    inner: Agreement,
    state: Arc<std::sync::Mutex<crate::fake::State>>,
}

#[async_trait::async_trait]
impl Judge for Meddler {
    fn name(&self) -> &'static str {
        "meddler"
    }

    async fn rule(
        &self,
        case: curate::judge::Case<'_>,
    ) -> Result<curate::judge::Ruling, curate::judge::JudgeError> {
        self.state.lock().unwrap().examples[0]["answer"] = json!("Marseille");
        self.inner.rule(case).await
    }
}

#[tokio::test]
async fn with_two_tiers_the_tier_judge_asks_nothing_at_all() {
    let fake = Fake::start(|_| whole("Paris")).await;
    fake.state(|state| state.examples = vec![example("e", "Lyon", 0.5)]);
    let dir = tempfile::tempdir().unwrap();
    let judge: Arc<dyn Judge> =
        Arc::new(SideBySide::Tier { gateway: fake.gateway(), timeout: Duration::from_secs(5) });
    let report =
        curate::run(&fake.gateway(), &curation(dir.path()), &judge, &CancellationToken::new()).await.unwrap();
    assert_eq!(report.skipped.get("every model that could judge wrote one of the answers"), Some(&1));
    assert_eq!(fake.state(|state| (state.chats.len(), state.patches.len())), (0, 0));
}

#[tokio::test]
async fn a_third_tier_judges_in_both_orders() {
    // The judge names the answer "Paris", wherever it stands; "sticky" is always for A.
    for (sticky, improved) in [(false, 1), (true, 0)] {
        let fake = Fake::start(move |asked| {
            if asked.body["model"] != "medium" {
                return whole("Paris");
            }
            let paris_is_a = asked.prompt.contains("[Answer A]\nParis");
            whole(if sticky || paris_is_a { "A" } else { "B" })
        })
        .await;
        fake.state(|state| {
            state.examples = vec![example("e", "Lyon", 0.5)];
            state.more_tiers = vec![json!({"name": "medium", "model": "m", "state": "ready", "cost": 0.5})];
        });
        let dir = tempfile::tempdir().unwrap();
        let judge: Arc<dyn Judge> =
            Arc::new(SideBySide::Tier { gateway: fake.gateway(), timeout: Duration::from_secs(5) });
        let report = curate::run(&fake.gateway(), &curation(dir.path()), &judge, &CancellationToken::new())
            .await
            .unwrap();
        assert_eq!(report.improved.len(), improved);
        let judged: Vec<String> = fake.state(|state| {
            state.chats[4..].iter().map(|chat| chat.body["model"].as_str().unwrap().to_string()).collect()
        });
        assert_eq!(judged, ["medium", "medium"], "no author of either answer is asked to judge");
    }
}

#[tokio::test]
async fn a_dry_run_asks_nothing() {
    let fake = Fake::start(|_| whole("Paris")).await;
    fake.state(|state| state.examples = vec![example("e", "Lyon", 0.5)]);
    let dir = tempfile::tempdir().unwrap();
    let output = binary(&fake, dir.path()).arg("--dry-run").output().await.unwrap();
    assert!(output.status.success());
    assert!(String::from_utf8_lossy(&output.stdout).contains("default / e  capital of e?"));
    assert_eq!(fake.state(|state| (state.chats.len(), state.runs.len(), state.leases_released)), (0, 0, 0));
}
