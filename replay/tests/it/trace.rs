use std::path::Path;
use std::time::Duration;

use reprise_replay::data::arrivals::Arrivals;
use reprise_replay::data::requests::Request;
use reprise_replay::gateway::chat::CacheUse;
use reprise_replay::score::Metric;
use reprise_replay::trace::{self, AnswerRow, Asking, Row, RunFile, Trace};
use tokio_util::sync::CancellationToken;

use crate::fake::{Fake, after, error, stream};

fn request(id: &str) -> Request {
    Request {
        id: id.into(),
        set: "set".into(),
        source: "source".into(),
        task: "task".into(),
        prompt: format!("say {id}"),
        text: None,
        references: vec![id.into()],
        metric: Metric::ExactMatch,
        solution: None,
    }
}

fn trace(out: &Path, ids: &[&str], arrivals: Option<Arrivals>) -> Trace {
    Trace {
        policy: "small-examples".into(),
        label: "mine".into(),
        passes: 1,
        requests: ids.iter().map(|id| request(id)).collect(),
        concurrency_cap: if arrivals.is_some() { 8 } else { 1 },
        asking: Asking {
            max_tokens: 64,
            cache: CacheUse::ReadOnly,
            exact_reuse: false,
            feedback: false,
            timeout: Duration::from_secs(30),
        },
        run_file: RunFile::new(
            "mine",
            "small-examples",
            0,
            1,
            ids.len(),
            if arrivals.is_some() { "open" } else { "closed" }.into(),
        ),
        arrivals,
        out: out.to_owned(),
    }
}

fn arrivals(times: &[f64]) -> Arrivals {
    let file = tempfile::NamedTempFile::new().unwrap();
    let lines: Vec<String> = times.iter().map(ToString::to_string).collect();
    std::fs::write(file.path(), format!("arrival_s\n{}\n", lines.join("\n"))).unwrap();
    Arrivals::read(file.path(), 0, times.len(), 1.0).unwrap()
}

fn rows(out: &Path) -> Vec<Row> {
    csv::Reader::from_path(out.join("rows.csv")).unwrap().deserialize().map(Result::unwrap).collect()
}

#[tokio::test]
async fn a_row_holds_what_the_gateway_said_and_what_was_measured() {
    let fake = Fake::start(|asked| stream(asked.prompt.trim_start_matches("say "))).await;
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("run");
    let mut trace = trace(&out, &["a", "b"], None);
    trace.passes = 2;
    trace.asking.feedback = true;
    let summary = trace::run(&fake.gateway(), trace, &CancellationToken::new()).await.unwrap();
    assert_eq!((summary.rows, summary.errors, summary.interrupted), (4, 0, false));

    let rows = rows(&out);
    let ids: Vec<_> = rows.iter().map(|row| (row.pass, row.id.as_str())).collect();
    assert_eq!(ids, [(1, "a"), (1, "b"), (2, "a"), (2, "b")]);
    let row = &rows[0];
    assert_eq!((row.run.as_str(), row.policy.as_str()), ("mine", "small-examples"));
    assert_eq!((row.score, row.status), (Some(1.0), Some(200)));
    assert_eq!((row.tier.as_deref(), row.cache.as_deref()), (Some("small"), Some("EXAMPLES")));
    assert_eq!((row.examples, row.similarity, row.overhead_ms), (Some(2), Some(0.81), Some(1.5)));
    assert_eq!((row.example_tokens, row.prompt_tokens, row.completion_tokens), (Some(42), Some(12), Some(3)));
    assert!(row.ttft_s.unwrap() <= row.e2e_s.unwrap());
    assert_eq!(row.lateness_s, 0.0);

    let answers = std::fs::read_to_string(out.join("answers.jsonl")).unwrap();
    let answers: Vec<AnswerRow> = answers.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(answers[1].answer, "b");
    let run = RunFile::read(&out).unwrap();
    assert!(run.completed && run.tiers.len() == 2 && run.loop_kind == "closed");
    assert!(run.gateway["state"].get("recent").is_none(), "other people's requests are left out");

    fake.state(|state| {
        assert_eq!(state.policies_set, ["small-examples", "bandit"]);
        assert_eq!(state.ratings.len(), 4);
        assert_eq!(state.ratings[0], serde_json::json!({"request_id": "req-0", "rating": 1.0}));
        let asked = &state.chats[0];
        assert_eq!(asked.policy, "small-examples");
        assert_eq!(asked.headers["cache-control"], "no-cache");
        assert_eq!(asked.headers["x-reprise-cache"], "read-only");
        assert_eq!(asked.body["model"], "auto");
        assert_eq!(asked.body["temperature"], 0.0);
    });
}

#[tokio::test]
async fn an_open_loop_does_not_wait_for_answers() {
    // The first answer takes far longer than the gap to the second request.
    let fake =
        Fake::start(|asked| after(if asked.prompt == "say slow" { 1500 } else { 0 }, stream("x"))).await;
    let dir = tempfile::tempdir().unwrap();
    let trace = trace(dir.path(), &["slow", "quick", "last"], Some(arrivals(&[5.0, 5.02, 5.04])));
    trace::run(&fake.gateway(), trace, &CancellationToken::new()).await.unwrap();
    let sent = fake.state(|state| state.chats.iter().map(|chat| chat.prompt.clone()).collect::<Vec<_>>());
    assert_eq!(sent, ["say slow", "say quick", "say last"]);
    let answered = rows(dir.path());
    assert_eq!(answered.last().unwrap().id, "slow", "it was answered last");
    assert!(answered.iter().all(|row| row.lateness_s >= 0.0));
}

#[tokio::test]
async fn each_client_of_a_closed_loop_waits_for_its_own_answer() {
    // One answer takes far longer than all others together: with two clients, the other one goes on meanwhile.
    let fake =
        Fake::start(|asked| after(if asked.prompt == "say slow" { 1500 } else { 0 }, stream("x"))).await;
    let dir = tempfile::tempdir().unwrap();
    let mut trace = trace(dir.path(), &["slow", "second", "third"], None);
    trace.concurrency_cap = 2;
    trace::run(&fake.gateway(), trace, &CancellationToken::new()).await.unwrap();
    let answered: Vec<String> = rows(dir.path()).into_iter().map(|row| row.id).collect();
    assert_eq!(answered, ["second", "third", "slow"]);
}

#[tokio::test]
async fn the_cap_makes_requests_late_and_says_so() {
    let fake = Fake::start(|_| after(150, stream("x"))).await;
    let dir = tempfile::tempdir().unwrap();
    let mut trace = trace(dir.path(), &["a", "b", "c"], Some(arrivals(&[0.0, 0.0, 0.0])));
    trace.concurrency_cap = 1;
    trace::run(&fake.gateway(), trace, &CancellationToken::new()).await.unwrap();
    let late: Vec<f64> = rows(dir.path()).iter().map(|row| row.lateness_s).collect();
    // Two answers of at least 150 ms stand before the third.
    assert!(late[1] >= 0.15 && late[2] >= 0.3, "{late:?}");
}

#[tokio::test]
async fn errors_become_rows_and_the_policy_is_restored() {
    let fake = Fake::start(|asked| match asked.index {
        0 => error(503, "no tier is ready"),
        1 => wiremock::ResponseTemplate::new(200)
            .set_body_raw("data: {\"id\":\"c\",\"created\":1,\"model\":\"m\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\"a\"}}]}\n\n", "text/event-stream"),
        _ => stream("c"),
    })
    .await;
    let dir = tempfile::tempdir().unwrap();
    let summary =
        trace::run(&fake.gateway(), trace(dir.path(), &["a", "b", "c"], None), &CancellationToken::new())
            .await
            .unwrap();
    assert_eq!((summary.rows, summary.errors), (3, 2));
    let rows = rows(dir.path());
    assert_eq!(rows[0].status, Some(503));
    assert!(rows[0].error.as_ref().unwrap().contains("no tier is ready"));
    assert!(rows[1].error.as_ref().unwrap().contains("[DONE]"), "a cut stream is not an answer");
    assert_eq!((rows[0].score, rows[2].score), (None, Some(1.0)));
    assert_eq!(fake.state(|state| state.policy.clone()), "bandit");
}

#[tokio::test]
async fn cancelling_keeps_rows_and_restores_the_policy() {
    let cancel = CancellationToken::new();
    let inner = cancel.clone();
    let fake = Fake::start(move |asked| {
        if asked.index == 1 {
            inner.cancel();
        }
        after(if asked.index == 1 { 60_000 } else { 0 }, stream("x"))
    })
    .await;
    let dir = tempfile::tempdir().unwrap();
    let summary =
        trace::run(&fake.gateway(), trace(dir.path(), &["a", "b", "c"], None), &cancel).await.unwrap();
    assert!(summary.interrupted);
    assert_eq!(rows(dir.path()).len(), 1);
    assert!(!RunFile::read(dir.path()).unwrap().completed);
    assert_eq!(fake.state(|state| state.policies_set.clone()), ["small-examples", "bandit"]);
}

#[tokio::test]
async fn a_folder_with_a_run_is_left_alone() {
    let fake = Fake::start(|_| stream("x")).await;
    let dir = tempfile::tempdir().unwrap();
    let run = || trace(dir.path(), &["a"], None);
    trace::run(&fake.gateway(), run(), &CancellationToken::new()).await.unwrap();
    let error = trace::run(&fake.gateway(), run(), &CancellationToken::new()).await.unwrap_err();
    assert!(error.to_string().contains("already holds a run"), "{error}");
    assert_eq!(rows(dir.path()).len(), 1);
}

#[tokio::test]
async fn the_policy_reuse_may_reuse() {
    let fake = Fake::start(|_| stream("x")).await;
    let dir = tempfile::tempdir().unwrap();
    let mut trace = trace(dir.path(), &["a"], None);
    trace.policy = "reuse".into();
    trace::run(&fake.gateway(), trace, &CancellationToken::new()).await.unwrap();
    assert!(fake.state(|state| !state.chats[0].headers.contains_key("cache-control")));
}
