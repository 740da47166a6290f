//! The program itself: exit codes, signals, files.

use std::path::Path;
use std::process::{Output, Stdio};
use std::time::Duration;

use tokio::process::Command;

use crate::fake::{Fake, after, stream, whole};

fn program(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_reprise-replay"));
    command.args(args).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    for name in ["REPRISE_ADMIN_KEY", "REPRISE_API_KEY", "REPRISE_GATEWAY"] {
        command.env_remove(name);
    }
    command
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn path(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[tokio::test]
async fn import_fails_on_refused_lines_unless_lenient() {
    let fake = Fake::start(|_| whole("")).await;
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("pairs.jsonl");
    let good = r#"{"messages":[{"role":"user","content":"q"},{"role":"assistant","content":"a"}]}"#;
    std::fs::write(&file, format!("{good}\nnot json\n")).unwrap();
    let import = async |more: &[&str]| -> Output {
        program(&["import", "--gateway", &fake.server.uri(), path(&file)]).args(more).output().await.unwrap()
    };
    let output = import(&[]).await;
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("pairs.jsonl:2: refused:"), "{}", text(&output.stderr));
    assert!(text(&output.stdout).contains("1 inserted, 0 merged, 1 refused"));
    assert_eq!(import(&["--lenient"]).await.status.code(), Some(0));
}

#[tokio::test]
async fn a_gateway_that_is_not_there_is_named() {
    // Nothing listens on the discard port.
    let output = program(&["curate", "--once", "--gateway", "http://127.0.0.1:9", "--state-dir", "unused"])
        .output()
        .await
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("127.0.0.1:9"), "{}", text(&output.stderr));
    assert!(!Path::new("unused").exists(), "no journal without a lease");
}

/// Two rows a file, of which one is asked; the pool gets the other.
fn requests(dir: &Path) -> std::path::PathBuf {
    let file = dir.join("colours.jsonl");
    let row = |id: &str, prompt: &str, reference: &str| {
        format!(
            "{{\"id\":\"{id}\",\"source\":\"c\",\"task\":\"t\",\"prompt\":\"{prompt}\",\"reference\":\"{reference}\",\"metric\":\"exact_match\"}}\n"
        )
    };
    std::fs::write(&file, row("1", "colour of grass?", "green") + &row("2", "colour of snow?", "white"))
        .unwrap();
    file
}

#[tokio::test]
async fn pool_trace_and_report_fit_together() {
    let fake =
        Fake::start(|asked| stream(if asked.prompt.contains("snow") { "white" } else { "green" })).await;
    let dir = tempfile::tempdir().unwrap();
    let file = requests(dir.path());
    let (pool, run, page) =
        (dir.path().join("pool.jsonl"), dir.path().join("run"), dir.path().join("report.html"));
    let sample = ["--requests", path(&file), "--limit", "1", "--seed", "4"];

    let output = program(&["pool", "--out", path(&pool)]).args(sample).output().await.unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    let output =
        program(&["trace", "--gateway", &fake.server.uri(), "--policy", "bandit", "--out", path(&run)])
            .args(sample)
            .output()
            .await
            .unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    let asked = fake.state(|state| state.chats[0].prompt.clone());
    let pooled = std::fs::read_to_string(&pool).unwrap();
    assert_eq!(pooled.lines().count(), 1);
    assert!(!pooled.contains(&asked), "the pool never holds what is asked");

    let output = program(&["report", path(&run), "--out", path(&page)]).output().await.unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    let page = std::fs::read_to_string(&page).unwrap();
    assert!(page.contains("1 run, 1 request, 0 errors"));
    assert!(!page.contains(path(dir.path())), "no path of this machine in a result");
}

#[cfg(unix)]
#[tokio::test]
async fn a_signal_restores_the_policy() {
    let fake = Fake::start(|_| after(60_000, stream("x"))).await;
    let dir = tempfile::tempdir().unwrap();
    let (file, run) = (requests(dir.path()), dir.path().join("run"));
    let child = program(&["trace", "--gateway", &fake.server.uri(), "--policy", "large-plain", "--requests"])
        .args([path(&file), "--out", path(&run)])
        .spawn()
        .unwrap();
    while fake.state(|state| state.chats.is_empty()) {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let id = child.id().unwrap().to_string();
    assert!(Command::new("kill").args(["-TERM", &id]).status().await.unwrap().success());
    let output = child.wait_with_output().await.unwrap();
    assert_eq!(output.status.code(), Some(130));
    assert_eq!(fake.state(|state| state.policies_set.clone()), ["large-plain", "bandit"]);
}
