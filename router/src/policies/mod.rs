//! How an arm is chosen: the bandit, and the baselines that every evaluation compares it with.
//!
//! A policy sees only arms that can take the request ([`Situation::arms`] is never empty), so "small" means the
//! cheapest tier that is up and "large" the dearest. Where what a policy stands for is not at hand (no example was
//! selected, the tier is full) it takes what is nearest to it, in the order that its file states.

mod bandit;
mod kind;
mod large_examples;
mod large_plain;
mod preference;
mod random;
mod reuse;
mod small_examples;
mod small_plain;
mod static_threshold;
mod win_probability;

use std::sync::Arc;

use rand::RngCore;

pub use bandit::ThompsonSampling;
pub use kind::{PolicyKind, UnknownPolicy};
pub use win_probability::{WinModel, WinModelState};

use crate::{Action, ArmScore, Context, Features, RouterConfig};

/// A way to choose an arm.
///
/// It does not learn: the [`Router`](crate::Router) teaches its models from every outcome, whichever policy decided, so
/// that a policy switched on at run time already knows what the others went through.
pub trait Policy: Send + Sync + std::fmt::Debug {
    fn kind(&self) -> PolicyKind;

    fn choose(&self, situation: &Situation<'_>, rng: &mut dyn RngCore) -> Choice;
}

/// What a policy decides on.
#[derive(Debug, Clone, Copy)]
pub struct Situation<'a> {
    pub context: &'a Context<'a>,
    pub features: &'a Features,
    /// The arms that can be chosen, in the pool's order (cheapest tier first), with the bandit's belief and the
    /// relative cost of each. Never empty.
    pub arms: &'a [ArmScore],
    /// L.
    pub load: f64,
    pub load_bias: f64,
}

/// What a policy chose.
#[derive(Debug, Clone, PartialEq)]
pub struct Choice {
    /// Index into [`Situation::arms`].
    pub index: usize,
    pub action: Action,
    pub reason: String,
}

impl Choice {
    fn generate(index: usize, reason: impl Into<String>) -> Self {
        Self { index, action: Action::Generate, reason: reason.into() }
    }
}

/// Builds a policy. `wins` is the model that the win-probability policy shares with the router's snapshot.
pub fn build(kind: PolicyKind, config: &RouterConfig, wins: &Arc<WinModel>) -> Arc<dyn Policy> {
    match kind {
        PolicyKind::Bandit => Arc::new(ThompsonSampling { indifference: config.bandit.indifference }),
        PolicyKind::SmallPlain => Arc::new(small_plain::SmallPlain),
        PolicyKind::SmallExamples => Arc::new(small_examples::SmallExamples),
        PolicyKind::LargePlain => Arc::new(large_plain::LargePlain),
        PolicyKind::LargeExamples => Arc::new(large_examples::LargeExamples),
        PolicyKind::Random => Arc::new(random::Random),
        PolicyKind::Reuse => Arc::new(reuse::Reuse),
        PolicyKind::StaticThreshold => {
            Arc::new(static_threshold::StaticThreshold { similarity: config.similarity_threshold })
        }
        PolicyKind::WinProbability => Arc::new(win_probability::WinProbability {
            threshold: config.win_threshold,
            model: Arc::clone(wins),
        }),
    }
}

#[cfg(test)]
mod tests;
