//! The posterior of one arm's weights.
//!
//! ```text
//! update, discount g:  P <- g P + (1 - g) P0 + x x' / s^2        b <- g b + (1 - g) P0 m0 + x r / s^2
//! ```
//!
//! A convex mix of two positive definite matrices plus a square is positive definite, so P stays one; with no news it
//! returns to the prior at rate g. Should rounding break it all the same (Cholesky fails, a value is not finite), the
//! arm falls back to its prior and counts a reset.

use nalgebra::{Cholesky, Const, SMatrix, SVector};
use serde::{Deserialize, Serialize};

use super::{ArmReport, BanditConfig};
use crate::{ArmKey, features::DIMENSIONS};

type Vector = SVector<f64, DIMENSIONS>;
type Matrix = SMatrix<f64, DIMENSIONS, DIMENSIONS>;

/// Mean and standard deviation of an arm's mean quality for one request.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Belief {
    pub mu: f64,
    pub sigma: f64,
}

impl Belief {
    pub const IGNORANT: Self = Self { mu: 0.5, sigma: 0.5 };
}

#[derive(Debug, Clone)]
pub struct Posterior {
    prior_mean: Vector,
    prior_precision: f64,
    precision: Box<Matrix>,
    b: Vector,
    /// Derived from the two above at each update: what a belief is read from.
    factor: Box<Cholesky<f64, Const<DIMENSIONS>>>,
    mean: Vector,
    updates: u64,
    evidence: f64,
    /// Discounted sum of rewards, over `evidence`.
    rewards: f64,
    resets: u64,
}

impl Posterior {
    pub fn new(prior_mean: Vector, prior_sd: f64) -> Self {
        let prior_precision = prior_sd.powi(-2);
        Self {
            prior_mean,
            prior_precision,
            precision: Box::new(Matrix::from_diagonal_element(prior_precision)),
            b: prior_mean * prior_precision,
            // The factor of a scaled identity, without asking whether it exists.
            factor: Box::new(Cholesky::pack_dirty(Matrix::from_diagonal_element(prior_precision.sqrt()))),
            mean: prior_mean,
            updates: 0,
            evidence: 0.0,
            rewards: 0.0,
            resets: 0,
        }
    }

    pub fn belief(&self, x: &Vector) -> Belief {
        // sigma^2 = x' (L L')^-1 x = |L^-1 x|^2. The factor's diagonal is positive, so the solve cannot fail.
        let mut solved = *x;
        if !self.factor.l_dirty().solve_lower_triangular_mut(&mut solved) {
            return Belief::IGNORANT;
        }
        let belief = Belief { mu: self.mean.dot(x), sigma: solved.norm() };
        if belief.mu.is_finite() && belief.sigma.is_finite() { belief } else { Belief::IGNORANT }
    }

    /// Discounts what is known, and adds an observation (features, reward) where there is one.
    pub fn update(&mut self, config: &BanditConfig, observed: Option<(Vector, f64)>) {
        let keep = config.discount;
        *self.precision *= keep;
        for i in 0..DIMENSIONS {
            self.precision[(i, i)] += (1.0 - keep) * self.prior_precision;
        }
        self.b = self.b * keep + self.prior_mean * ((1.0 - keep) * self.prior_precision);
        self.evidence *= keep;
        self.rewards *= keep;
        if let Some((x, reward)) = observed {
            self.precision.syger(1.0 / config.noise_variance, &x, &x, 1.0);
            self.precision.fill_upper_triangle_with_lower_triangle();
            self.b += x * (reward / config.noise_variance);
            self.updates += 1;
            self.evidence += 1.0;
            self.rewards += reward;
        }
        if !self.refresh() {
            tracing::warn!("a posterior was no longer positive definite; the arm starts from its prior");
            let resets = self.resets + 1;
            *self = Self { resets, ..Self::new(self.prior_mean, self.prior_precision.sqrt().recip()) };
        }
    }

    /// Recomputes factor and mean. False if the precision is not positive definite or anything is not finite.
    fn refresh(&mut self) -> bool {
        let Some(factor) = Cholesky::new(*self.precision) else { return false };
        let mean = factor.solve(&self.b);
        if !mean.iter().chain(factor.l_dirty().iter()).all(|value| value.is_finite()) {
            return false;
        }
        *self.factor = factor;
        self.mean = mean;
        true
    }

    /// Updates that still count.
    pub fn evidence(&self) -> f64 {
        self.evidence
    }

    pub fn report(&self, key: ArmKey) -> ArmReport {
        let mean_reward = (self.evidence > 0.0).then(|| self.rewards / self.evidence);
        ArmReport { key, updates: self.updates, evidence: self.evidence, mean_reward, resets: self.resets }
    }

    pub fn state(&self) -> PosteriorState {
        let precision =
            (0..DIMENSIONS).flat_map(|i| (0..=i).map(move |j| (i, j))).map(|at| self.precision[at]);
        PosteriorState {
            prior_mean: self.prior_mean.iter().copied().collect(),
            precision: precision.collect(),
            b: self.b.iter().copied().collect(),
            updates: self.updates,
            evidence: self.evidence,
            rewards: self.rewards,
        }
    }

    /// `None` if the state is not that of a posterior: wrong lengths, not finite, not positive definite.
    pub fn from_state(prior_sd: f64, state: PosteriorState) -> Option<Self> {
        let finite = |values: &[f64]| values.iter().all(|value| value.is_finite());
        let lengths = state.prior_mean.len() == DIMENSIONS
            && state.b.len() == DIMENSIONS
            && state.precision.len() == DIMENSIONS * (DIMENSIONS + 1) / 2;
        if !lengths || !finite(&state.prior_mean) || !finite(&[state.evidence, state.rewards]) {
            return None;
        }
        let mut posterior = Self::new(Vector::from_column_slice(&state.prior_mean), prior_sd);
        let lower = (0..DIMENSIONS).flat_map(|i| (0..=i).map(move |j| (i, j)));
        for ((i, j), value) in lower.zip(state.precision) {
            posterior.precision[(i, j)] = value;
            posterior.precision[(j, i)] = value;
        }
        posterior.b = Vector::from_column_slice(&state.b);
        (posterior.updates, posterior.evidence, posterior.rewards) =
            (state.updates, state.evidence, state.rewards);
        posterior.refresh().then_some(posterior)
    }
}

/// What a snapshot keeps of a posterior.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PosteriorState {
    prior_mean: Vec<f64>,
    /// The lower triangle, row by row.
    precision: Vec<f64>,
    b: Vec<f64>,
    updates: u64,
    evidence: f64,
    rewards: f64,
}
