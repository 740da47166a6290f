use std::time::Duration;

use schemars::JsonSchema;
use serde::Serialize;
use thiserror::Error;

use crate::{Arm, ArmKey, Cluster, Excluded, Experience, Features, PolicyKind};

/// What to do with a request, and why: logged and shown by the admin API.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct Decision {
    /// The arm to run. With [`Action::Reuse`], the arm to run if the example has gone meanwhile.
    pub arm: Arm,
    pub key: ArmKey,
    pub action: Action,
    pub policy: PolicyKind,
    /// Every arm that could have been chosen, in the pool's order. The bandit's belief under every policy.
    pub scores: Vec<ArmScore>,
    pub excluded: Vec<Excluded>,
    /// L: the moving average of the pool's pressure.
    pub load: f64,
    /// `lambda0 * tanh(gamma * max(0, L - theta))`: what an arm of cost 1 loses.
    pub load_bias: f64,
    /// The arms look alike: a comparison would teach more than another single rating.
    pub solicit_preference: bool,
    pub reason: String,
    pub features: Features,
    /// The harm guard's cluster of the request.
    pub cluster: Option<Cluster>,
}

impl Decision {
    /// What is learned once the answer's quality is known.
    #[must_use]
    pub fn experience(&self, reward: f64) -> Experience {
        Experience {
            features: self.features,
            arm: self.key.clone(),
            reward,
            baseline: None,
            cluster: self.cluster,
        }
    }
}

/// How the answer is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    Generate,
    /// Return the nearest example's answer as it is (only the policy `reuse`).
    Reuse,
}

/// `S_i` of one arm and what it is made of.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct ArmScore {
    pub arm: Arm,
    pub key: ArmKey,
    /// Posterior mean of the quality.
    pub mu: f64,
    /// Posterior standard deviation of the mean quality.
    pub sigma: f64,
    /// The Thompson draw.
    pub sampled: f64,
    /// `C_i` in [0, 1]: predicted work, examples included, relative to the dearest arm.
    pub cost: f64,
    /// `load_bias * C_i`.
    pub bias: f64,
    /// `sampled - bias`.
    pub score: f64,
}

/// Why no arm can be chosen.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum RouteError {
    #[error("no tier is ready")]
    NotReady,
    /// Another attempt can help.
    #[error("the queue of every ready tier is full")]
    Saturated { retry_after: Duration },
    /// The caller's mistake: the pool has no such tier.
    #[error("the pool has no tier number {tier}")]
    UnknownTier { tier: usize },
}
