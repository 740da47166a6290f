use std::collections::BTreeSet;

use super::compare::{Paired, baseline, paired};
use super::format::{decimals, optional};
use super::measure::{Measured, Scope, Spread};
use super::{Run, format};
use crate::stats::Estimate;

/// One run, one set (or all), one pass.
#[derive(Debug, Clone, PartialEq)]
pub struct Line {
    pub run: String,
    pub policy: String,
    /// `None`: all sets together.
    pub set: Option<String>,
    pub pass: u32,
    /// True for the pass that the run's headline figures are of.
    pub headline: bool,
    pub measured: Measured,
    /// Beside the run under `large-plain`, and under `small-plain`.
    pub over_large: Option<Paired>,
    pub over_small: Option<Paired>,
}

/// Every run, set and pass, in that order; all sets together first.
#[must_use]
pub fn summarise(runs: &[Run]) -> Vec<Line> {
    let (large, small) = (baseline(runs, "large-plain"), baseline(runs, "small-plain"));
    let sets: BTreeSet<&str> = runs.iter().flat_map(Run::sets).collect();
    let mut lines = Vec::new();
    for run in runs {
        for set in std::iter::once(None).chain(sets.iter().copied().map(Some)) {
            for pass in 1..=run.passes() {
                let scope = Scope { set, pass };
                let measured = Measured::of(run, scope);
                if measured.requests == 0 {
                    continue;
                }
                // Beside itself every run is equal.
                let beside = |other: Option<&Run>| {
                    other.filter(|other| other.label != run.label).and_then(|other| paired(run, other, scope))
                };
                lines.push(Line {
                    run: run.label.clone(),
                    policy: run.file.policy.clone(),
                    set: set.map(ToOwned::to_owned),
                    pass,
                    headline: pass == run.headline_pass(),
                    measured,
                    over_large: beside(large),
                    over_small: beside(small),
                });
            }
        }
    }
    lines
}

const COLUMNS: [&str; 42] = [
    "run",
    "policy",
    "set",
    "pass",
    "requests",
    "errors",
    "score",
    "score_low",
    "score_high",
    "over_large_n",
    "over_large",
    "over_large_low",
    "over_large_high",
    "win_rate_over_large",
    "win_rate_low",
    "win_rate_high",
    "over_small_n",
    "over_small",
    "over_small_low",
    "over_small_high",
    "offloaded",
    "offloaded_low",
    "offloaded_high",
    "ttft_p50_s",
    "ttft_p99_s",
    "e2e_p50_s",
    "e2e_p99_s",
    "inter_token_p50_s",
    "inter_token_p99_s",
    "lateness_p50_s",
    "lateness_p99_s",
    "overhead_p50_ms",
    "overhead_p99_ms",
    "examples_mean",
    "example_tokens_mean",
    "prompt_tokens_mean",
    "completion_tokens_mean",
    "score_n",
    "offloaded_n",
    "headline",
    "baseline",
    "cut",
];

pub(super) fn csv(lines: &[Line]) -> anyhow::Result<Vec<u8>> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    writer.write_record(COLUMNS)?;
    for line in lines {
        writer.write_record(fields(line))?;
    }
    Ok(writer.into_inner()?)
}

fn fields(line: &Line) -> Vec<String> {
    let number = |value: Option<f64>| optional(value, |value| decimals(value, 6));
    let three = |estimate: Option<Estimate>| {
        [estimate.map(|e| e.mean), estimate.map(|e| e.low), estimate.map(|e| e.high)].map(number)
    };
    let count = |n: Option<usize>| optional(n, |n| n.to_string());
    let two = |spread: Option<Spread>| [spread.map(|s| s.p50), spread.map(|s| s.p99)].map(number);
    let measured = &line.measured;
    let (large, small) = (line.over_large.as_ref(), line.over_small.as_ref());
    let mut fields = vec![
        line.run.clone(),
        line.policy.clone(),
        line.set.clone().unwrap_or_else(|| "all".into()),
        line.pass.to_string(),
        measured.requests.to_string(),
        measured.errors.to_string(),
    ];
    fields.extend(three(measured.score));
    fields.push(count(large.map(|paired| paired.difference.n)));
    fields.extend(three(large.map(|paired| paired.difference)));
    fields.extend(three(large.map(|paired| paired.win_rate)));
    fields.push(count(small.map(|paired| paired.difference.n)));
    fields.extend(three(small.map(|paired| paired.difference)));
    fields.extend(three(measured.offloaded));
    for spread in
        [measured.ttft_s, measured.e2e_s, measured.inter_token_s, measured.lateness_s, measured.overhead_ms]
    {
        fields.extend(two(spread));
    }
    for mean in
        [measured.examples, measured.example_tokens, measured.prompt_tokens, measured.completion_tokens]
    {
        fields.push(number(mean));
    }
    fields.push(count(measured.score.map(|estimate| estimate.n)));
    fields.push(count(measured.offloaded.map(|estimate| estimate.n)));
    fields.push(line.headline.to_string());
    fields.push(large.map(|paired| paired.baseline.clone()).unwrap_or_default());
    fields.push(measured.cut.to_string());
    fields
}

/// The headline figures of every run, one table a set.
pub(super) fn markdown(lines: &[Line]) -> String {
    let mut sets: Vec<Option<&str>> = Vec::new();
    for line in lines {
        if !sets.contains(&line.set.as_deref()) {
            sets.push(line.set.as_deref());
        }
    }
    let mut out = String::from(
        "The last whole pass of a policy that learns, the first of any other; in brackets the 95 % interval. A failed \
         request scores 0. Times in seconds.\n",
    );
    for set in sets {
        out.push_str(&format!("\n## {}\n\n", set.unwrap_or("All sets")));
        out.push_str(
            "| run | n | score | over large-plain | over small-plain | wins over large-plain | offloaded | TTFT p50 / p99 \
             | end to end p50 / p99 | examples | example / prompt tokens | overhead p50 / p99, ms | errors / cut |\n\
             |---|---|---|---|---|---|---|---|---|---|---|---|---|\n",
        );
        for line in lines.iter().filter(|line| line.headline && line.set.as_deref() == set) {
            let cells = format::cells(line);
            out.push_str(&format!("| {} |\n", cells.join(" | ")));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_field_has_its_column() {
        let line = Line {
            run: "r".into(),
            policy: "p".into(),
            set: None,
            pass: 1,
            headline: true,
            measured: Measured::default(),
            over_large: None,
            over_small: None,
        };
        assert_eq!(fields(&line).len(), COLUMNS.len());
    }
}
