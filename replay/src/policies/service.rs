//! What an answer takes, from the measured speed of its tier: in the time of one request alone, and as a share of a machine
//! that is kept full.
//!
//! ```text
//! alone  = (prompt - cached) / prefill + (completion - 1) / decode
//! full   = (prompt - cached) / prefill + (completion - 1) / (decode * S(slots)),  S(n) = 1 + (n - 1) * batch_gain
//! ```
//!
//! Tiers that share one processor share the second: requests a second are one over its mean.

use serde::Serialize;

use crate::harness::outcome::Outcome;
use crate::simulate::machine::{TierSpeed, Work};

/// Seconds of one answer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Service {
    pub alone_s: f64,
    pub full_s: f64,
}

impl Service {
    #[must_use]
    pub fn of(outcome: &Outcome, speed: &TierSpeed) -> Self {
        let work = Work::of(outcome);
        let batched = TierSpeed { decode: speed.decode * speed.together(speed.slots), ..*speed };
        Self { alone_s: speed.alone_s(work), full_s: batched.alone_s(work) }
    }
}
