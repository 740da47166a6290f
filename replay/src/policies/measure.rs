use serde::Serialize;

use super::play::Played;
use crate::stats::{Bootstrap, Estimate, bootstrap_mean, quantile};

/// A policy over one set, or over all.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Measured {
    pub policy: String,
    /// What of it was varied: the arm that shows examples, a threshold, a pass.
    pub setting: String,
    pub pool: String,
    pub seed: u64,
    /// Set of the data; `all` of them.
    pub set: String,
    pub requests: usize,
    pub score: f64,
    pub score_low: f64,
    pub score_high: f64,
    /// Paired with the dearest tier without examples.
    pub gain: f64,
    pub gain_low: f64,
    pub gain_high: f64,
    /// Share of requests answered better than by it, ties half.
    pub win_rate: f64,
    pub win_low: f64,
    pub win_high: f64,
    /// Share of requests that the dearest tier did not answer.
    pub offloaded: f64,
    /// Share that was shown examples.
    pub with_examples: f64,
    pub example_tokens: f64,
    /// Seconds of one request on an idle machine.
    pub alone_mean_s: f64,
    pub alone_p50_s: f64,
    pub alone_p99_s: f64,
    /// Mean seconds of a machine that is kept full.
    pub full_mean_s: f64,
    /// Requests a second of such a machine, over those of the dearest tier without examples.
    pub throughput: f64,
    /// Mean score below the best arm for each request.
    pub regret: f64,
}

/// What the rows of one play are called.
#[derive(Debug, Clone, PartialEq)]
pub struct Name {
    pub policy: String,
    pub setting: String,
    pub pool: String,
    pub seed: u64,
}

/// Name of the row over all sets.
pub const ALL: &str = "all";

/// One row for each set, and one over all. `dearest`: index of the dearest tier; `always`: the same requests, all answered by
/// it without examples.
#[must_use]
pub fn measure(name: &Name, played: &[Played], always: &[Played], dearest: usize) -> Vec<Measured> {
    let mut sets: Vec<&str> = played.iter().map(|played| played.set.as_str()).collect();
    sets.sort_unstable();
    sets.dedup();
    let of = |set: &str| {
        let within = |all: &[Played]| -> Vec<Played> {
            all.iter().filter(|played| set == ALL || played.set == set).cloned().collect()
        };
        row(name, set, &within(played), &within(always), dearest)
    };
    sets.into_iter().chain([ALL]).filter_map(of).collect()
}

fn row(name: &Name, set: &str, played: &[Played], always: &[Played], dearest: usize) -> Option<Measured> {
    let values = |value: &dyn Fn(&Played) -> f64| -> Vec<f64> { played.iter().map(value).collect() };
    let estimate = |value: &dyn Fn(&Played) -> f64| Estimate::of(&values(value), Bootstrap::default());
    let mean = |value: &dyn Fn(&Played) -> f64| values(value).iter().sum::<f64>() / played.len() as f64;
    let score = estimate(&|played| played.score)?;
    let gain = bootstrap_mean(&values(&|played| played.score - played.baseline), Bootstrap::default())?;
    let win = bootstrap_mean(&values(&|played| won(played.score, played.baseline)), Bootstrap::default())?;
    let alone = values(&|played| played.service.alone_s);
    let full_mean_s = mean(&|played| played.service.full_s);
    let always_s =
        always.iter().map(|played| played.service.full_s).sum::<f64>() / always.len().max(1) as f64;
    Some(Measured {
        policy: name.policy.clone(),
        setting: name.setting.clone(),
        pool: name.pool.clone(),
        seed: name.seed,
        set: set.to_owned(),
        requests: played.len(),
        score: score.mean,
        score_low: score.low,
        score_high: score.high,
        gain: gain.mean,
        gain_low: gain.low,
        gain_high: gain.high,
        win_rate: win.mean,
        win_low: win.low,
        win_high: win.high,
        offloaded: mean(&|played| f64::from(u8::from(played.reused || played.tier != dearest))),
        with_examples: mean(&|played| f64::from(u8::from(played.examples && !played.reused))),
        example_tokens: mean(&|played| f64::from(played.example_tokens)),
        alone_mean_s: mean(&|played| played.service.alone_s),
        alone_p50_s: quantile(&alone, 0.5)?,
        alone_p99_s: quantile(&alone, 0.99)?,
        full_mean_s,
        // Nothing is computed for an answer that is reused as it is.
        throughput: if full_mean_s > 0.0 { always_s / full_mean_s } else { f64::INFINITY },
        regret: mean(&|played| played.best - played.score),
    })
}

/// 1 for a better answer, 0 for a worse one, a half for one that scores the same.
#[must_use]
pub fn won(score: f64, other: f64) -> f64 {
    if score > other {
        1.0
    } else if score < other {
        0.0
    } else {
        0.5
    }
}
