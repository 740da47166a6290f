//! What a cold router believes: a prior, not a measurement.
//!
//! With `r` in [0, 1] the strength of the arm's tier (0 the cheapest of the pool, 1 the dearest), `s` and `u` the
//! centred top similarity and utility of the examples (`2 v - 1`: 0 at 0.5, 1 at a twin):
//!
//! ```text
//! plain          mu = 0.45 + 0.23 r
//! with examples  mu = 0.45 + 0.23 r + (0.45 - 0.39 r) (s + u) / 2
//! ```
//!
//! In words: a dearer tier answers better; a good near example lifts a cheap tier much and a dear one little; at
//! about s = u = 0.6 (cosine 0.8, an example of utility 0.8) the cheap tier with examples draws level, nearer it leads,
//! so that a cold router offloads where a near example exists and nowhere else. That the lead goes to the cheap tier is
//! optimism in the face of uncertainty in the direction that saves; if it is wrong, some ten outcomes outvote it.

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
        let lift = LIFT - LIFT_LOSS * r;
        mean[SIMILARITY_TOP] = lift / 2.0;
        mean[UTILITY_TOP] = lift / 2.0;
    }
    mean
}

const BASE: f64 = 0.45;
const BASE_GAIN: f64 = 0.23;
const LIFT: f64 = 0.45;
const LIFT_LOSS: f64 = 0.39;
