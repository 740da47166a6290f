//! How much an example is expected to help the answer to this request on this tier.
//!
//! [`SimilarityPrior`] knows likeness and quality alone and serves while cold. [`UtilityModel`] was trained on outcomes by
//! the replay job; it is plain arithmetic here, so that selection needs no machine-learning crate and no thread of its own.

mod calibration;
mod features;
mod model;
mod prior;

pub use calibration::{Calibration, CalibrationError};
pub use features::{SCALARS, Traits, scalars};
pub use model::{ModelError, UtilityModel, Weights};
pub use prior::SimilarityPrior;

use crate::{Candidate, UnitVector};

/// What is asked, and of whom.
#[derive(Debug, Clone, Copy)]
pub struct Query<'a> {
    pub embedding: &'a UnitVector,
    /// Bytes of the question.
    pub bytes: usize,
    /// How able the tier is that would be shown the examples, in [0, 1]: 0 the pool's cheapest, 1 its dearest.
    pub strength: f32,
}

/// How much each candidate is expected to help, in [0, 1].
pub trait Utility: Send + Sync + std::fmt::Debug {
    /// One number a candidate, in their order.
    fn scores(&self, query: &Query<'_>, candidates: &[&Candidate]) -> Vec<f32>;

    /// Least utility of an example that is worth its tokens, where training found one.
    fn tau(&self) -> Option<f32> {
        None
    }
}
