//! The counters of the metrics as the console's overview shows them: since the start of the process.

use prometheus::core::Collector;
use prometheus::proto::LabelPair;
use prometheus::{CounterVec, HistogramVec, IntCounterVec};
use schemars::JsonSchema;
use serde::Serialize;

use crate::metrics::Metrics;

#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct Counts {
    /// Chat completions asked for.
    total: u64,
    /// Answered with a status of 400 or above.
    errors: u64,
    /// Decided by the router.
    routed: u64,
    /// Routed, and answered by a tier under the dearest.
    offloaded: u64,
    /// Of those routed; `None` before the first.
    offload_share: Option<f64>,
    hit: u64,
    examples: u64,
    miss: u64,
    bypass: u64,
    /// Completion tokens that stored answers saved.
    tokens_saved: u64,
    prompt_tokens: u64,
    completion_tokens: u64,
    /// The part of the prompt tokens that examples made.
    example_tokens: u64,
    /// In the currency of the tiers' prices.
    money_spent: f64,
    money_saved: f64,
    /// Answers whose quality was measured; its mean, in [0, 1].
    measured: u64,
    mean_quality: Option<f64>,
}

impl Counts {
    pub fn of(metrics: &Metrics) -> Self {
        let lookups = |result| sum(&metrics.cache_lookups, |labels| labels.get("result") == result);
        let tokens = |kind| sum(&metrics.tokens, |labels| labels.get("kind") == kind);
        let chat = |labels: &Labels<'_>| labels.get("endpoint") == "chat";
        let (routed, offloaded) = (sum(&metrics.router_decisions, |_| true), metrics.offloaded.get());
        let (measured, quality) = observed(&metrics.answer_quality);
        Self {
            total: sum(&metrics.requests, chat),
            errors: sum(&metrics.requests, |labels| chat(labels) && is_error(labels.get("status"))),
            routed,
            offloaded,
            offload_share: (routed > 0).then(|| offloaded as f64 / routed as f64),
            hit: lookups("hit"),
            examples: lookups("examples"),
            miss: lookups("miss"),
            bypass: lookups("bypass"),
            tokens_saved: metrics.tokens_saved.get(),
            prompt_tokens: tokens("prompt"),
            completion_tokens: tokens("completion"),
            example_tokens: tokens("example"),
            money_spent: money(&metrics.money_spent),
            money_saved: money(&metrics.money_saved),
            measured,
            mean_quality: (measured > 0).then(|| quality / measured as f64),
        }
    }
}

/// Of one series.
#[derive(Debug)]
struct Labels<'a>(&'a [LabelPair]);

impl Labels<'_> {
    fn get(&self, name: &str) -> &str {
        self.0.iter().find(|label| label.name() == name).map_or("", |label| label.value())
    }
}

/// Over the series whose labels fit.
fn sum(counters: &IntCounterVec, fits: impl Fn(&Labels<'_>) -> bool) -> u64 {
    let families = counters.collect();
    let series = families.iter().flat_map(|family| family.get_metric());
    let fitting = series.filter(|metric| fits(&Labels(metric.get_label())));
    fitting.map(|metric| metric.get_counter().get_value() as u64).sum()
}

fn money(counters: &CounterVec) -> f64 {
    let families = counters.collect();
    families.iter().flat_map(|family| family.get_metric()).map(|one| one.get_counter().get_value()).sum()
}

/// How often, and the sum of it.
fn observed(histograms: &HistogramVec) -> (u64, f64) {
    let families = histograms.collect();
    let all = families.iter().flat_map(|family| family.get_metric()).map(|one| one.get_histogram());
    all.fold((0, 0.0), |(count, sum), one| (count + one.get_sample_count(), sum + one.get_sample_sum()))
}

fn is_error(status: &str) -> bool {
    status.parse::<u16>().is_ok_and(|status| status >= 400)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn series_are_added_up() {
        let metrics = Metrics::new().unwrap();
        metrics.requests.with_label_values(&["chat", "200", "small", "hit"]).inc_by(3);
        metrics.requests.with_label_values(&["chat", "503", "", "miss"]).inc_by(2);
        metrics.requests.with_label_values(&["admin", "200", "", ""]).inc_by(9);
        metrics.cache_lookups.with_label_values(&["hit"]).inc_by(3);
        metrics.router_decisions.with_label_values(&["bandit", "small", "true"]).inc_by(3);
        metrics.router_decisions.with_label_values(&["bandit", "large", "false"]).inc();
        metrics.offloaded.inc_by(3);
        for quality in [0.5, 1.0] {
            metrics.answer_quality.with_label_values(&["small", "true", "feedback"]).observe(quality);
        }
        metrics.money_spent.with_label_values(&["small"]).inc_by(0.25);
        metrics.money_saved.with_label_values(&["hit"]).inc_by(1.0);
        metrics.money_saved.with_label_values(&["offload"]).inc_by(0.5);
        let counts = Counts::of(&metrics);
        assert_eq!((counts.total, counts.errors, counts.hit, counts.miss), (5, 2, 3, 0));
        assert_eq!((counts.routed, counts.offload_share), (4, Some(0.75)));
        assert_eq!((counts.measured, counts.mean_quality), (2, Some(0.75)));
        assert_eq!((counts.money_spent, counts.money_saved), (0.25, 1.5));
    }

    #[test]
    fn nothing_routed_is_no_share() {
        assert_eq!(Counts::of(&Metrics::new().unwrap()).offload_share, None);
    }
}
