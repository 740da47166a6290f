use indicatif::ProgressBar;
use reprise_replay::import;

use crate::fake::{Fake, whole};

fn line(request: &str, answer: &str) -> String {
    format!(
        "{{\"messages\":[{{\"role\":\"user\",\"content\":\"{request}\"}},{{\"role\":\"assistant\",\"content\":\"{answer}\"}}],\"quality\":0.9}}\n"
    )
}

#[tokio::test]
async fn batches_hold_at_most_256_and_refusals_carry_line_numbers() {
    let fake = Fake::start(|_| whole("")).await;
    let mut file = String::new();
    for number in 1..=600 {
        match number {
            10 => file.push_str("{}\n"),
            // The gateway refuses this one, in the second batch.
            400 => file.push_str(&line("q", "bad")),
            _ => file.push_str(&line(&format!("q{number}"), "a")),
        }
    }
    let report = import::run(&fake.gateway(), "acme", file.as_bytes(), &ProgressBar::hidden()).await.unwrap();
    assert_eq!((report.inserted, report.merged), (598, 0));
    let lines: Vec<usize> = report.refused.iter().map(|(line, _)| *line).collect();
    assert_eq!(lines, [10, 400]);
    assert_eq!(report.refused[1].1, "too bad");
    let sizes = fake.state(|state| {
        assert!(state.imports.iter().all(|import| import["tenant"] == "acme"));
        state.imports.iter().map(|import| import["examples"].as_array().unwrap().len()).collect::<Vec<_>>()
    });
    assert_eq!(sizes, [256, 256, 87]);
}

#[tokio::test]
async fn a_gateway_that_fails_says_how_far_it_came() {
    let fake = Fake::start(|_| whole("")).await;
    let gateway = reprise_replay::gateway::Gateway::new(
        &format!("{}/nowhere", fake.server.uri()),
        reprise_replay::gateway::Keys::default(),
    )
    .unwrap();
    let file = line("q", "a");
    let error = import::run(&gateway, "t", file.as_bytes(), &ProgressBar::hidden()).await.unwrap_err();
    assert!(format!("{error:#}").contains("lines 1 to 1"), "{error:#}");
}

#[tokio::test]
async fn a_busy_gateway_is_asked_again() {
    let fake = Fake::start(|_| whole("")).await;
    fake.state(|state| state.imports_to_refuse = 1);
    let file = line("q", "a");
    let report = import::run(&fake.gateway(), "t", file.as_bytes(), &ProgressBar::hidden()).await.unwrap();
    assert_eq!((report.inserted, report.refused.len()), (1, 0));
}
