//! What an example has been worth, and what a better answer in it would be.
//!
//! ```text
//! value(t) = value(t0) * 0.9^((t - t0) / 1 h) + quality of each successful offload
//! G(e)     = (1 - quality) * cost,    gain <- gain + ema * (G - gain)
//! ```
//!
//! EchoLM / IC-Cache, arXiv 2501.12689, sections 4.3 (replay) and 5 (cache management). Quality and cost in [0, 1].

use crate::{CacheConfig, Example};

/// How an answer turned out in whose prompt an example stood.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Outcome {
    /// Quality of the answer, in [0, 1]; `None`: not measured.
    pub quality: Option<f32>,
    /// Relative cost of the tier that answered, in [0, 1].
    pub cost: f32,
    /// True if a cheaper tier answered than would have without examples.
    pub offloaded: bool,
}

/// Quality of an answer that nobody measured, where one must be assumed.
const UNMEASURED: f64 = 0.5;

impl Example {
    /// Its value at a time; a clock that steps back does not raise it.
    #[must_use]
    pub fn value_at(&self, config: &CacheConfig, now_ms: i64) -> f64 {
        let hours = (now_ms - self.valued_at_ms).max(0) as f64 / 3_600_000.0;
        self.value * config.decay_per_hour.powf(hours)
    }

    /// A prompt held it and an answer came.
    pub(crate) fn used(&mut self, outcome: &Outcome, config: &CacheConfig, now_ms: i64) {
        self.uses += 1;
        self.judged(outcome, config, now_ms);
    }

    /// It would have stood in a prompt but for its poor answer, and a tier of this cost answered without it. Counted as a
    /// use of its own answer: else its gain would stop rising exactly because it is poor, and nothing would mend it.
    pub(crate) fn was_missed(&mut self, cost: f32, config: &CacheConfig) {
        self.missed += 1;
        let quality = f64::from(self.quality.unwrap_or(UNMEASURED as f32).clamp(0.0, 1.0));
        let gain = (1.0 - quality) * f64::from(cost.clamp(0.0, 1.0));
        self.replay_gain += config.gain_ema * (gain - self.replay_gain);
    }

    /// An answer's quality, known later than its use.
    pub(crate) fn judged(&mut self, outcome: &Outcome, config: &CacheConfig, now_ms: i64) {
        let quality = outcome.quality.map_or(UNMEASURED, |quality| f64::from(quality.clamp(0.0, 1.0)));
        if outcome.offloaded {
            self.value = self.value_at(config, now_ms) + quality;
            self.valued_at_ms = self.valued_at_ms.max(now_ms);
        }
        let gain = (1.0 - quality) * f64::from(outcome.cost.clamp(0.0, 1.0));
        self.replay_gain += config.gain_ema * (gain - self.replay_gain);
    }
}
