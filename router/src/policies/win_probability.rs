//! Routing by the probability that the cheap tier does as well as the dear one.
//!
//! After RouteLLM (Ong et al., arXiv 2406.18665): a win-prediction model and a threshold on what it predicts. Theirs is
//! trained offline on preference pairs; this one is a logistic model over the router's features, trained online:
//!
//! ```text
//! p = 1 / (1 + exp(-w . x))            P(the cheap tier's answer is at least as good)
//! w <- w + rate (y - p) x + decay (w0 - w)
//! ```
//!
//! `y` is 1, 1/2 or 0 as the cheap answer is better than, like or worse than the dear one where both are known
//! ([`Experience::baseline`]), else the quality of the cheap answer itself. Answers of dear tiers say nothing of y.
//! `w0` is a prior: log-odds -1, rising by 1.5 each with the top similarity and the top utility of the examples.

use std::sync::Arc;

use parking_lot::RwLock;
use rand::RngCore;
use serde::{Deserialize, Serialize};

use super::{Choice, Policy, PolicyKind, Situation, preference};
use crate::{
    Experience, Features,
    features::{DIMENSIONS, SIMILARITY_TOP, UTILITY_TOP},
};

const RATE: f64 = 0.1;
const DECAY: f64 = 1e-4;

/// The cheapest tier where it probably wins, else the dearest.
#[derive(Debug)]
pub struct WinProbability {
    /// Least probability to take the cheap tier.
    pub threshold: f64,
    pub model: Arc<WinModel>,
}

impl Policy for WinProbability {
    fn kind(&self) -> PolicyKind {
        PolicyKind::WinProbability
    }

    fn choose(&self, situation: &Situation<'_>, _rng: &mut dyn RngCore) -> Choice {
        let cheap = preference::cheapest(situation.arms, true);
        let shown = situation.arms.get(cheap).is_some_and(|arm| arm.arm.examples);
        let p = self.model.probability(&as_shown(situation.features, shown));
        let (index, relation) = if p >= self.threshold {
            (cheap, "reaches")
        } else {
            (preference::dearest(situation.arms, false), "is under")
        };
        Choice::generate(
            index,
            format!("the cheapest tier's win probability {p:.3} {relation} {:.3}", self.threshold),
        )
    }
}

/// The logistic model. Its lock is held for one dot product or one gradient step.
#[derive(Debug)]
pub struct WinModel {
    state: RwLock<WinModelState>,
}

/// What a snapshot keeps of the model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct WinModelState {
    weights: [f64; DIMENSIONS],
    updates: u64,
}

impl Default for WinModelState {
    fn default() -> Self {
        Self { weights: prior(), updates: 0 }
    }
}

impl WinModel {
    /// A state with a value that is not finite starts cold.
    pub fn new(state: WinModelState) -> Self {
        let usable = state.weights.iter().all(|weight| weight.is_finite());
        Self { state: RwLock::new(if usable { state } else { WinModelState::default() }) }
    }

    pub fn state(&self) -> WinModelState {
        self.state.read().clone()
    }

    pub fn probability(&self, features: &Features) -> f64 {
        sigmoid(&self.state.read().weights, features)
    }

    /// Takes in an outcome of the cheapest tier. A reward that is not finite is ignored.
    pub fn learn(&self, experience: &Experience) {
        if !experience.reward.is_finite() {
            return;
        }
        let label = match experience.baseline.filter(|baseline| baseline.is_finite()) {
            Some(baseline) if experience.reward > baseline => 1.0,
            Some(baseline) if experience.reward < baseline => 0.0,
            Some(_) => 0.5,
            None => experience.reward.clamp(0.0, 1.0),
        };
        let x = as_shown(&experience.features, experience.arm.examples);
        let mut state = self.state.write();
        let error = label - sigmoid(&state.weights, &x);
        for ((weight, x), prior) in state.weights.iter_mut().zip(x.as_slice()).zip(prior()) {
            *weight += RATE * error * x + DECAY * (prior - *weight);
        }
        state.updates += 1;
    }
}

fn as_shown(features: &Features, examples: bool) -> Features {
    if examples { *features } else { features.without_examples() }
}

fn sigmoid(weights: &[f64; DIMENSIONS], features: &Features) -> f64 {
    let logit: f64 = weights.iter().zip(features.as_slice()).map(|(w, x)| w * x).sum();
    1.0 / (1.0 + (-logit).exp())
}

fn prior() -> [f64; DIMENSIONS] {
    let mut weights = [0.0; DIMENSIONS];
    weights[0] = -1.0;
    weights[SIMILARITY_TOP] = 1.5;
    weights[UTILITY_TOP] = 1.5;
    weights
}
