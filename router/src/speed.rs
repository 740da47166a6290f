//! What a token costs on each tier, in seconds, as its own answers measured it.
//!
//! ```text
//! prefill_s <- prefill_s + a (measured prefill / prompt tokens - prefill_s)        decode_s likewise
//! ```
//!
//! The medians of a machine that does other things jump; an average over some twenty answers follows a change of load or
//! hardware and forgets an outlier. Answers whose prompt was mostly shared with an earlier one make prefill look cheap, which
//! is what it then is.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use schemars::JsonSchema;
use serde::Serialize;

/// Weight of the newest answer.
const NEWEST: f64 = 0.05;
/// Answers from which a tier's speed counts as measured.
const LEAST: u32 = 8;

/// One tier's measured costs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, JsonSchema)]
pub struct TokenSeconds {
    pub prefill: f64,
    pub decode: f64,
    pub answers: u32,
}

/// What an answer took.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Took {
    pub prompt_tokens: u32,
    pub completion_tokens: u32,
    pub prefill: Duration,
    pub decode: Duration,
}

#[derive(Debug, Clone, Default)]
pub struct Speeds(BTreeMap<Arc<str>, TokenSeconds>);

impl Speeds {
    /// An answer of one token, or without times (a remote tier's), says nothing.
    pub fn observe(&mut self, tier: &str, took: &Took) {
        let gaps = took.completion_tokens.saturating_sub(1);
        if took.prompt_tokens == 0 || gaps == 0 || took.prefill.is_zero() || took.decode.is_zero() {
            return;
        }
        let prefill = took.prefill.as_secs_f64() / f64::from(took.prompt_tokens);
        let decode = took.decode.as_secs_f64() / f64::from(gaps);
        let speed = self.0.entry(tier.into()).or_default();
        // The first ones count equally, so that the first alone does not set the level.
        let weight = NEWEST.max(1.0 / f64::from(speed.answers + 1));
        speed.prefill += weight * (prefill - speed.prefill);
        speed.decode += weight * (decode - speed.decode);
        speed.answers = speed.answers.saturating_add(1);
    }

    /// `None` until enough answers were measured.
    pub fn of(&self, tier: &str) -> Option<TokenSeconds> {
        self.0.get(tier).copied().filter(|speed| speed.answers >= LEAST)
    }

    pub fn report(&self) -> BTreeMap<Arc<str>, TokenSeconds> {
        self.0.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn took(prefill_ms: u64, decode_ms: u64) -> Took {
        Took {
            prompt_tokens: 100,
            completion_tokens: 11,
            prefill: Duration::from_millis(prefill_ms),
            decode: Duration::from_millis(decode_ms),
        }
    }

    #[test]
    fn it_counts_once_measured_and_follows_a_change() {
        let mut speeds = Speeds::default();
        for _ in 0..LEAST - 1 {
            speeds.observe("small", &took(50, 40));
        }
        assert_eq!(speeds.of("small"), None);
        speeds.observe("small", &took(50, 40));
        let speed = speeds.of("small").unwrap();
        assert!((speed.prefill - 0.0005).abs() < 1e-9 && (speed.decode - 0.004).abs() < 1e-9);
        for _ in 0..200 {
            speeds.observe("small", &took(100, 80));
        }
        assert!((speeds.of("small").unwrap().decode - 0.008).abs() < 1e-4);
    }

    #[test]
    fn what_says_nothing_is_passed_over() {
        let mut speeds = Speeds::default();
        speeds.observe("remote", &took(0, 0));
        speeds.observe("remote", &Took { completion_tokens: 1, ..took(5, 5) });
        assert!(speeds.report().is_empty());
    }
}
