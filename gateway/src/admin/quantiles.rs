//! Exact quantiles of the newest requests, for people: what Prometheus has are histograms over all time.

use schemars::JsonSchema;
use serde::Serialize;

use crate::decisions::{DecisionRecord, Timings};

/// Milliseconds. `None`: nothing measured.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, JsonSchema)]
pub struct Quantiles {
    p50: Option<f64>,
    p99: Option<f64>,
}

#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct Latency {
    /// Requests that these are of.
    window: usize,
    total_ms: Quantiles,
    ttft_ms: Quantiles,
    overhead_ms: Quantiles,
}

impl Latency {
    /// Of those that were answered: how fast an error comes tells nothing.
    pub fn of<'a>(records: impl Iterator<Item = &'a DecisionRecord>) -> Self {
        let timings: Vec<Timings> =
            records.filter(|record| record.error.is_none()).map(|record| record.timings).collect();
        let quantiles =
            |field: fn(&Timings) -> Option<f64>| Quantiles::of(timings.iter().filter_map(field).collect());
        Self {
            window: timings.len(),
            total_ms: quantiles(|timings| Some(timings.total_ms)),
            ttft_ms: quantiles(|timings| timings.ttft_ms),
            overhead_ms: quantiles(|timings| Some(timings.overhead_ms)),
        }
    }
}

impl Quantiles {
    /// Nearest rank: the smallest value with at least this share of the values at or under it.
    fn of(mut values: Vec<f64>) -> Self {
        values.retain(|value| value.is_finite());
        values.sort_by(f64::total_cmp);
        let rank = |share: f64| {
            let rank = (share * values.len() as f64).ceil() as usize;
            values.get(rank.max(1) - 1).copied()
        };
        Self { p50: rank(0.5), p99: rank(0.99) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranks_are_the_nearest() {
        assert_eq!(Quantiles::of(Vec::new()), Quantiles { p50: None, p99: None });
        assert_eq!(Quantiles::of(vec![7.0]), Quantiles { p50: Some(7.0), p99: Some(7.0) });
        let hundred = (1..=100).rev().map(f64::from).collect();
        assert_eq!(Quantiles::of(hundred), Quantiles { p50: Some(50.0), p99: Some(99.0) });
    }

    #[test]
    fn what_is_no_number_does_not_count() {
        assert_eq!(Quantiles::of(vec![f64::NAN, 3.0]), Quantiles { p50: Some(3.0), p99: Some(3.0) });
    }
}
