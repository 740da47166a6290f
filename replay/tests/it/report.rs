//! A tiny fixture, small enough to check the figures by hand.

use std::path::Path;

use reprise_replay::gateway::admin::TierInfo;
use reprise_replay::report;
use reprise_replay::score::Metric;
use reprise_replay::trace::{Row, RunFile};

struct Entry {
    id: &'static str,
    pass: u32,
    score: Option<f64>,
    tier: &'static str,
    seconds: f64,
}

fn run(dir: &Path, policy: &str, entries: &[Entry]) {
    std::fs::create_dir_all(dir).unwrap();
    let mut file = RunFile::new(policy, policy, 1, 1, entries.len(), "closed".into());
    let tier = |name: &str, cost| TierInfo {
        name: name.into(),
        model: format!("model-{name}"),
        state: "ready".into(),
        cost,
        context_length: None,
        remote: false,
    };
    file.tiers = vec![tier("small", 0.1), tier("large", 1.0)];
    file.completed = true;
    file.write(dir).unwrap();
    let mut writer = csv::Writer::from_path(dir.join("rows.csv")).unwrap();
    for entry in entries {
        let failed = entry.score.is_none();
        writer
            .serialize(Row {
                run: policy.into(),
                policy: policy.into(),
                pass: entry.pass,
                id: entry.id.into(),
                request_id: None,
                set: "colours".into(),
                source: "colours".into(),
                task: "t".into(),
                metric: Metric::ExactMatch,
                score: entry.score,
                ttft_s: (!failed).then_some(entry.seconds / 2.0),
                e2e_s: (!failed).then_some(entry.seconds),
                itl_s: None,
                lateness_s: 0.0,
                tier: (!failed).then(|| entry.tier.into()),
                cache: Some("MISS".into()),
                examples: Some(if policy.ends_with("plain") { 0 } else { 2 }),
                similarity: None,
                overhead_ms: Some(4.0),
                example_tokens: (!policy.ends_with("plain")).then_some(50),
                prompt_tokens: Some(70),
                completion_tokens: Some(3),
                finish_reason: None,
                status: Some(if failed { 503 } else { 200 }),
                error: failed.then(|| "<503>".into()),
            })
            .unwrap();
    }
    writer.flush().unwrap();
}

fn entry(id: &'static str, score: f64, tier: &'static str, seconds: f64) -> Entry {
    Entry { id, pass: 1, score: Some(score), tier, seconds }
}

fn fixture(dir: &Path) -> Vec<std::path::PathBuf> {
    run(
        &dir.join("l"),
        "large-plain",
        &[
            entry("a", 1.0, "large", 2.0),
            entry("b", 0.0, "large", 4.0),
            entry("c", 0.0, "large", 2.0),
            entry("d", 0.0, "large", 4.0),
        ],
    );
    run(
        &dir.join("x"),
        "large-examples",
        &[
            entry("a", 1.0, "large", 4.0),
            entry("b", 1.0, "large", 4.0),
            entry("c", 1.0, "small", 4.0),
            Entry { score: None, ..entry("d", 0.0, "large", 0.0) },
        ],
    );
    vec![dir.join("l"), dir.join("x")]
}

#[test]
fn the_summary_holds_the_figures_worked_out_by_hand() {
    let dir = tempfile::tempdir().unwrap();
    let written = report::write(&fixture(dir.path()), &dir.path().join("out/report.html"), "T").unwrap();
    let mut reader = csv::Reader::from_path(&written.summary_csv).unwrap();
    let headers = reader.headers().unwrap().clone();
    let records: Vec<csv::StringRecord> = reader.records().map(Result::unwrap).collect();
    let field = |record: usize, name: &str| {
        let column = headers.iter().position(|header| header == name).unwrap();
        records[record][column].to_string()
    };
    // Two runs, each for all sets and for the one set.
    assert_eq!(records.len(), 4);
    assert_eq!((field(2, "run"), field(2, "set")), ("large-examples".into(), "all".into()));
    // Three of four right; the failed one counts as wrong.
    assert_eq!(
        (field(2, "requests"), field(2, "errors"), field(2, "score")),
        ("4".into(), "1".into(), "0.750000".into())
    );
    // Wilson for 3 of 4.
    assert_eq!((field(2, "score_low"), field(2, "score_high")), ("0.300642".into(), "0.954413".into()));
    // Differences 0, 1, 1, 0; wins 1/2, 1, 1, 1/2.
    assert_eq!((field(2, "over_large"), field(2, "over_large_n")), ("0.500000".into(), "4".into()));
    assert_eq!(field(2, "win_rate_over_large"), "0.750000");
    // One of three answers came from the small tier.
    assert_eq!(field(2, "offloaded"), "0.333333");
    assert_eq!((field(0, "e2e_p50_s"), field(0, "ttft_p50_s")), ("3.000000".into(), "1.500000".into()));
    assert_eq!(
        (field(2, "example_tokens_mean"), field(0, "example_tokens_mean")),
        ("50.000000".into(), "0.000000".into())
    );
    assert_eq!(field(0, "over_large"), "", "nothing is compared with itself");

    let merged: Vec<Row> =
        csv::Reader::from_path(&written.rows_csv).unwrap().deserialize().map(Result::unwrap).collect();
    assert_eq!(merged.len(), 8);
}

#[test]
fn the_page_stands_alone_and_says_what_examples_did() {
    let dir = tempfile::tempdir().unwrap();
    let written = report::write(&fixture(dir.path()), &dir.path().join("r.html"), "A <title>").unwrap();
    let page = std::fs::read_to_string(&written.html).unwrap();
    assert!(page.contains("<h1>A &lt;title&gt;</h1>"));
    for outside in ["<script", "<link", "src=", "@import", "url("] {
        assert!(!page.contains(outside), "{outside}");
    }
    // Four requests with differences 0, 1, 1, 0: the bootstrap interval reaches zero.
    assert!(page.contains("large: no clear change from examples, 0.25 to 0.75"), "sentence");
    assert!(page.contains("median time 3.00 s to 4.00 s (1.33x)"), "times");
    assert_eq!(page.matches("<section>").count(), 1);
    let markdown = std::fs::read_to_string(&written.summary_md).unwrap();
    assert!(
        markdown.contains("| large-examples | 4 | 0.75 [0.30, 0.95] | +0.50 [0.00, +1.00] |"),
        "{markdown}"
    );
}

#[test]
fn harm_is_said_as_plainly_as_help() {
    let dir = tempfile::tempdir().unwrap();
    let ids = ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l"];
    let entries = |score| ids.iter().map(|id| entry(id, score, "small", 1.0)).collect::<Vec<_>>();
    run(&dir.path().join("p"), "small-plain", &entries(1.0));
    run(&dir.path().join("e"), "small-examples", &entries(0.0));
    let dirs = [dir.path().join("p"), dir.path().join("e")];
    let written = report::write(&dirs, &dir.path().join("r.html"), "T").unwrap();
    let page = std::fs::read_to_string(written.html).unwrap();
    assert!(
        page.contains(
            "<li class=\"worse\">small: examples made it worse, 1.00 to 0.00 (-1.00 [-1.00, -1.00]"
        )
    );
}

#[test]
fn equal_labels_are_told_apart_by_folder_and_the_last_pass_leads() {
    let dir = tempfile::tempdir().unwrap();
    for name in ["one", "two"] {
        let second = Entry { pass: 2, ..entry("a", 1.0, "small", 1.0) };
        run(&dir.path().join(name), "bandit", &[entry("a", 0.0, "small", 1.0), second]);
    }
    let dirs = [dir.path().join("one"), dir.path().join("two")];
    let written = report::write(&dirs, &dir.path().join("r.html"), "T").unwrap();
    let markdown = std::fs::read_to_string(written.summary_md).unwrap();
    assert!(markdown.contains("| bandit (one) | 1 | 1.00 "), "{markdown}");
    assert!(markdown.contains("| bandit (two) | 1 | 1.00 "), "{markdown}");
    assert!(std::fs::read_to_string(written.html).unwrap().contains("Pass by pass"));
}

#[test]
fn a_policy_that_does_not_learn_leads_with_the_pass_in_which_its_prompts_were_new() {
    let dir = tempfile::tempdir().unwrap();
    let again = Entry { pass: 2, ..entry("a", 1.0, "small", 0.125) };
    run(&dir.path().join("p"), "small-plain", &[entry("a", 1.0, "small", 2.0), again]);
    let written = report::write(&[dir.path().join("p")], &dir.path().join("r.html"), "T").unwrap();
    let markdown = std::fs::read_to_string(written.summary_md).unwrap();
    assert!(markdown.contains("| 2.00 / 2.00 |") && !markdown.contains("0.125"), "{markdown}");
    assert!(std::fs::read_to_string(written.html).unwrap().contains("0.125"), "the other pass is shown too");
}

#[test]
fn shares_of_one_run_are_put_together_again() {
    let dir = tempfile::tempdir().unwrap();
    run(
        &dir.path().join("one"),
        "small-plain",
        &[entry("a", 1.0, "small", 1.0), entry("b", 0.0, "small", 1.0)],
    );
    run(
        &dir.path().join("two"),
        "small-plain",
        &[entry("c", 0.0, "small", 1.0), entry("d", 0.0, "small", 1.0)],
    );
    let dirs = [dir.path().join("one"), dir.path().join("two")];
    let written = report::write(&dirs, &dir.path().join("r.html"), "T").unwrap();
    let markdown = std::fs::read_to_string(written.summary_md).unwrap();
    assert!(markdown.contains("| small-plain | 4 | 0.25 "), "{markdown}");
    let page = std::fs::read_to_string(written.html).unwrap();
    assert!(
        page.contains("4 requests, 1 pass, closed loop, one request at a time, played in 2 shares"),
        "{page}"
    );
}

#[test]
fn a_last_pass_that_was_cut_short_does_not_lead() {
    let dir = tempfile::tempdir().unwrap();
    let again = Entry { pass: 2, ..entry("a", 0.0, "small", 1.0) };
    run(
        &dir.path().join("p"),
        "bandit",
        &[entry("a", 1.0, "small", 1.0), entry("b", 1.0, "small", 1.0), again],
    );
    let written = report::write(&[dir.path().join("p")], &dir.path().join("r.html"), "T").unwrap();
    let markdown = std::fs::read_to_string(written.summary_md).unwrap();
    assert!(markdown.contains("| bandit | 2 | 1.00 "), "{markdown}");
}

#[test]
fn only_the_last_row_of_a_killed_run_may_be_cut() {
    let dir = tempfile::tempdir().unwrap();
    let dirs = fixture(dir.path());
    let path = dirs[0].join("rows.csv");
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, &text[..text.len() - 60]).unwrap();
    let out = dir.path().join("r.html");
    assert!(report::write(&dirs, &out, "T").is_err(), "the run says it was completed");
    let mut file = RunFile::read(&dirs[0]).unwrap();
    file.completed = false;
    file.write(&dirs[0]).unwrap();
    let written = report::write(&dirs, &out, "T").unwrap();
    let page = std::fs::read_to_string(written.html).unwrap();
    assert!(page.contains("large-plain was interrupted: it holds 3 of 4 rows."));
}
