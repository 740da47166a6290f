//! Two runs on the same requests: differences are taken request by request, so that what makes a request hard cancels
//! out. Interval by bootstrap over requests.

use std::collections::HashMap;

use super::Run;
use super::measure::{Scope, score};
use crate::stats::{Bootstrap, Estimate, bootstrap_mean};

/// A run beside a baseline; `n` counts the requests that both have.
#[derive(Debug, Clone, PartialEq)]
pub struct Paired {
    pub baseline: String,
    /// Mean of score minus baseline score.
    pub difference: Estimate,
    /// Mean of 1 where better, 1/2 where equal, 0 where worse.
    pub win_rate: Estimate,
}

/// The first run under `policy`.
pub(super) fn baseline<'a>(runs: &'a [Run], policy: &str) -> Option<&'a Run> {
    runs.iter().find(|run| run.file.policy == policy)
}

/// `None` if the two share no scored request. A pass the baseline does not have is compared with the one that its figures are of.
pub(super) fn paired(run: &Run, baseline: &Run, scope: Scope<'_>) -> Option<Paired> {
    let pass = if scope.pass <= baseline.passes() { scope.pass } else { baseline.headline_pass() };
    let known = scores(baseline, Scope { pass, ..scope });
    let mut ours: Vec<(&str, f64)> = scores(run, scope).into_iter().collect();
    // A fixed order, so that the bootstrap draws the same samples every time.
    ours.sort_by(|a, b| a.0.cmp(b.0));
    let pairs: Vec<(f64, f64)> =
        ours.iter().filter_map(|(id, score)| Some((*score, *known.get(id)?))).collect();
    let differences: Vec<f64> = pairs.iter().map(|(ours, theirs)| ours - theirs).collect();
    let wins: Vec<f64> = pairs
        .iter()
        .map(|(ours, theirs)| match ours.total_cmp(theirs) {
            std::cmp::Ordering::Greater => 1.0,
            std::cmp::Ordering::Equal => 0.5,
            std::cmp::Ordering::Less => 0.0,
        })
        .collect();
    Some(Paired {
        baseline: baseline.label.clone(),
        difference: bootstrap_mean(&differences, Bootstrap::default())?,
        win_rate: bootstrap_mean(&wins, Bootstrap::default())?,
    })
}

fn scores<'a>(run: &'a Run, scope: Scope<'_>) -> HashMap<&'a str, f64> {
    run.rows
        .iter()
        .filter(|row| scope.holds(row))
        .filter_map(|row| Some((row.id.as_str(), score(row)?)))
        .collect()
}
