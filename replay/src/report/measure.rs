//! The figures of one run over some of its rows.

use super::Run;
use crate::score::Metric;
use crate::stats::{Bootstrap, Estimate, quantile, wilson};
use crate::trace::Row;

/// Which rows are looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Scope<'a> {
    /// `None`: all sets together.
    pub set: Option<&'a str>,
    pub pass: u32,
}

impl Scope<'_> {
    #[must_use]
    pub fn holds(&self, row: &Row) -> bool {
        row.pass == self.pass && self.set.is_none_or(|set| set == row.set)
    }
}

/// Median and 99th percentile.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Spread {
    pub p50: f64,
    pub p99: f64,
}

/// What a run did within a scope. Means are per answered request.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Measured {
    pub requests: usize,
    pub errors: usize,
    /// Answers that ended at the token limit: a right one may have been on its way.
    pub cut: usize,
    pub score: Option<Estimate>,
    /// Share of answers that did not come from the dearest tier.
    pub offloaded: Option<Estimate>,
    pub ttft_s: Option<Spread>,
    pub e2e_s: Option<Spread>,
    pub inter_token_s: Option<Spread>,
    pub lateness_s: Option<Spread>,
    pub overhead_ms: Option<Spread>,
    pub examples: Option<f64>,
    pub example_tokens: Option<f64>,
    pub prompt_tokens: Option<f64>,
    pub completion_tokens: Option<f64>,
}

impl Measured {
    #[must_use]
    pub fn of(run: &Run, scope: Scope<'_>) -> Self {
        let rows: Vec<&Row> = run.rows.iter().filter(|row| scope.holds(row)).collect();
        let answered: Vec<&Row> = rows.iter().copied().filter(|row| row.error.is_none()).collect();
        let values =
            |of: fn(&Row) -> Option<f64>| answered.iter().filter_map(|row| of(row)).collect::<Vec<f64>>();
        let scores: Vec<f64> = rows.iter().filter_map(|row| score(row)).collect();
        let offloaded = run.dearest().and_then(|dearest| {
            let tiers: Vec<&str> = answered.iter().filter_map(|row| row.tier.as_deref()).collect();
            wilson(tiers.iter().filter(|&&tier| tier != dearest).count(), tiers.len())
        });
        Self {
            requests: rows.len(),
            errors: rows.len() - answered.len(),
            cut: answered.iter().filter(|row| row.finish_reason.as_deref() == Some("length")).count(),
            score: Estimate::of(&scores, Bootstrap::default()),
            offloaded,
            ttft_s: spread(&values(|row| row.ttft_s)),
            e2e_s: spread(&values(|row| row.e2e_s)),
            inter_token_s: spread(&values(|row| row.itl_s)),
            lateness_s: spread(&rows.iter().map(|row| row.lateness_s).collect::<Vec<_>>()),
            overhead_ms: spread(&values(|row| row.overhead_ms)),
            examples: mean(&values(|row| row.examples.map(f64::from))),
            // An answer without examples has no example tokens.
            example_tokens: mean(&values(|row| match row.examples {
                Some(0) => Some(0.0),
                _ => row.example_tokens.map(f64::from),
            })),
            prompt_tokens: mean(&values(|row| row.prompt_tokens.map(f64::from))),
            completion_tokens: mean(&values(|row| row.completion_tokens.map(f64::from))),
        }
    }
}

/// A row's score; 0 if the request failed, nothing if its metric is none.
pub(super) fn score(row: &Row) -> Option<f64> {
    match (row.metric, &row.error) {
        (Metric::None, _) => None,
        (_, Some(_)) => Some(0.0),
        (_, None) => row.score,
    }
}

fn spread(values: &[f64]) -> Option<Spread> {
    Some(Spread { p50: quantile(values, 0.5)?, p99: quantile(values, 0.99)? })
}

fn mean(values: &[f64]) -> Option<f64> {
    (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
}
