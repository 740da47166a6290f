//! One Bayesian linear regression per arm, and Thompson sampling over them.
//!
//! ```text
//! quality = w . x + noise,   noise ~ N(0, s^2),   w ~ N(m0, P0^-1)
//! P = precision, b = P m;    belief in x: mu = m . x,  sigma^2 = x' P^-1 x
//! draw: mu + sigma z,  z ~ N(0, 1)
//! ```
//!
//! Agrawal and Goyal 2013, "Thompson Sampling for Contextual Bandits with Linear Payoffs" (arXiv 1209.3352). The arms
//! share no weights, so that drawing `w . x` from its marginal is the same as drawing w and costs one triangular solve.
//!
//! Forgetting: each update discounts every arm towards its prior (see [`posterior`]), after Russac, Vernade, Cappé
//! 2019, "Weighted Linear Bandits for Non-Stationary Environments" (arXiv 1909.09146): an arm that is not tried grows
//! uncertain again, and so is tried again.

mod posterior;
mod prior;

use std::collections::BTreeMap;

use nalgebra::SVector;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use posterior::{Belief, Posterior, PosteriorState};
pub use prior::Strength;

use crate::{ArmKey, ArmState, Experience, Features, features::DIMENSIONS};

/// The parameters of the bandit.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct BanditConfig {
    /// Variance of one observed quality around its mean.
    pub noise_variance: f64,
    /// Prior standard deviation of each weight. For features of squared length `|x|^2`, commonly 2 to 6, the prior is
    /// worth `noise_variance / (prior_sd^2 |x|^2)` observations: 3 to 10 by default.
    pub prior_sd: f64,
    /// What each update keeps of what was learned before, in (0, 1]; 0.998 halves it in 346 updates.
    pub discount: f64,
    /// Scores closer than this are alike, and the cheaper arm is taken: no feedback can tell them apart.
    pub indifference: f64,
    /// A comparison is asked for where the standard deviation of the arms' mean scores is below this.
    pub solicit_sd: f64,
}

impl Default for BanditConfig {
    fn default() -> Self {
        Self { noise_variance: 0.05, prior_sd: 0.05, discount: 0.998, indifference: 0.02, solicit_sd: 0.1 }
    }
}

/// What an arm has learned, for the admin API.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct ArmReport {
    pub key: ArmKey,
    /// Updates since the arm was cold.
    pub updates: u64,
    /// Updates that still count, after discounting.
    pub evidence: f64,
    /// Discounted mean of the rewards seen; `None` while cold.
    pub mean_reward: Option<f64>,
    /// Times its state had to be reset because it was no longer a covariance.
    pub resets: u64,
}

/// Updates, after discounting, under which an arm is as good as cold.
const LEAST_EVIDENCE: f64 = 1e-3;

/// The posteriors of all arms.
#[derive(Debug, Clone, Default)]
pub struct Bandit {
    arms: BTreeMap<ArmKey, Posterior>,
    updates: u64,
}

impl Bandit {
    /// Gives every arm a posterior; those not seen before start from the prior.
    pub fn ensure(&mut self, config: &BanditConfig, arms: &[ArmState]) {
        for state in arms {
            if !self.arms.contains_key(&state.key) {
                let mean = prior::mean(Strength::of(state, arms), state.arm.examples);
                self.arms.insert(state.key.clone(), Posterior::new(mean, config.prior_sd));
            }
        }
    }

    pub fn knows(&self, arms: &[ArmState]) -> bool {
        arms.iter().all(|state| self.arms.contains_key(&state.key))
    }

    /// Belief in an arm's quality for a request; of an unknown arm, ignorance.
    pub fn belief(&self, key: &ArmKey, features: &Features) -> Belief {
        self.arms.get(key).map_or(Belief::IGNORANT, |posterior| posterior.belief(&as_seen(key, features)))
    }

    /// Takes in one reward. False if it was not usable: an arm never offered, a reward that is not finite.
    pub fn learn(&mut self, config: &BanditConfig, experience: &Experience) -> bool {
        if !experience.reward.is_finite() || !self.arms.contains_key(&experience.arm) {
            return false;
        }
        for (key, posterior) in &mut self.arms {
            let observed = (*key == experience.arm)
                .then(|| (as_seen(key, &experience.features), experience.reward.clamp(0.0, 1.0)));
            posterior.update(config, observed);
        }
        self.updates += 1;
        true
    }

    /// Forgets everything about a tier, when its weights changed under the same model id.
    pub fn forget(&mut self, tier: &str) {
        self.arms.retain(|key, _| &*key.tier != tier);
    }

    pub fn updates(&self) -> u64 {
        self.updates
    }

    pub fn report(&self) -> Vec<ArmReport> {
        self.arms.iter().map(|(key, posterior)| posterior.report(key.clone())).collect()
    }

    /// Arms that know nothing, or no longer anything, are left out: their prior is all that they are, and tiers that
    /// went away do not stay for ever.
    pub fn state(&self) -> BanditState {
        let known = self.arms.iter().filter(|(_, posterior)| posterior.evidence() >= LEAST_EVIDENCE);
        BanditState {
            updates: self.updates,
            arms: known.map(|(key, posterior)| (key.clone(), posterior.state())).collect(),
        }
    }

    /// Arms whose state is not a valid posterior are left out and start cold.
    pub fn from_state(config: &BanditConfig, state: BanditState) -> Self {
        let arms = state
            .arms
            .into_iter()
            .filter_map(|(key, arm)| Some((key, Posterior::from_state(config.prior_sd, arm)?)))
            .collect();
        Self { arms, updates: state.updates }
    }
}

/// What a snapshot keeps of the bandit.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BanditState {
    pub updates: u64,
    pub arms: Vec<(ArmKey, PosteriorState)>,
}

fn as_seen(key: &ArmKey, features: &Features) -> SVector<f64, DIMENSIONS> {
    let features = if key.examples { *features } else { features.without_examples() };
    SVector::from(*features.as_slice())
}

#[cfg(test)]
mod tests;
