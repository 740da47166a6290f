//! What a cold router believes: fitted to measured answers, and outvoted by its own as they come.
//!
//! With `r` in [0, 1] the strength of the arm's tier (0 the cheapest of the pool, 1 the dearest), `s` and `u` the
//! centred top similarity and utility of the examples (`2 v - 1`: 0 at 0.5, 1 at a twin):
//!
//! ```text
//! plain          mu = 0.04 + 0.14 r
//! with examples  mu = 0.04 + 0.14 r + (0.59 + 0.06 r) (s + u) / 2
//! ```
//!
//! Least squares over 10,100 answers of two tiers (SmolLM2-135M and Qwen2.5-Coder-1.5B) to the training rows of eight sets, without
//! examples and with up to five of a pool of references: `replay/bench/runs/2026-11-26-h100` (`outcomes.csv.xz`), fitted again by
//! `replay/bench/prior_fit.py`. Its test rows give 0.03 + 0.22 r + (0.59 - 0.05 r) z.
//!
//! In words: near examples lift every tier alike and by more than a dearer tier does, so that a cold router shows them wherever
//! it has any, and the cheap tier with an example from cosine 0.62 on is taken to be above the dear one without. Which
//! tier is shown them is the load bias's affair: quality alone is for the dear one. An assumption remains: that answers in
//! the pool are good. Of a pool of unjudged answers the lift was 0.24 z.

use nalgebra::SVector;

use crate::{
    ArmState,
    features::{DIMENSIONS, SIMILARITY_TOP, UTILITY_TOP},
};

/// How able a tier is taken to be, in [0, 1], by its cost among the pool's.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Strength(f64);

impl Strength {
    pub fn of(state: &ArmState, pool: &[ArmState]) -> Self {
        let costs = || pool.iter().map(|other| other.cost).filter(|cost| cost.is_finite());
        let (low, high) = (costs().fold(f64::INFINITY, f64::min), costs().fold(f64::NEG_INFINITY, f64::max));
        if state.cost.is_finite() && high > low {
            Self(((state.cost - low) / (high - low)).clamp(0.0, 1.0))
        } else {
            Self(0.5)
        }
    }
}

pub fn mean(strength: Strength, examples: bool) -> SVector<f64, DIMENSIONS> {
    let Strength(r) = strength;
    let mut mean = SVector::zeros();
    mean[0] = BASE + BASE_GAIN * r;
    if examples {
        let lift = LIFT + LIFT_GAIN * r;
        mean[SIMILARITY_TOP] = lift / 2.0;
        mean[UTILITY_TOP] = lift / 2.0;
    }
    mean
}

const BASE: f64 = 0.04;
const BASE_GAIN: f64 = 0.14;
const LIFT: f64 = 0.59;
const LIFT_GAIN: f64 = 0.06;
