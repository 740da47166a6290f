use rand::{Rng, RngCore};

use super::{Choice, Policy, PolicyKind, Situation};

/// Any arm that can take the request, each as likely.
#[derive(Debug)]
pub struct Random;

impl Policy for Random {
    fn kind(&self) -> PolicyKind {
        PolicyKind::Random
    }

    fn choose(&self, situation: &Situation<'_>, rng: &mut dyn RngCore) -> Choice {
        Choice::generate(rng.random_range(0..situation.arms.len().max(1)), "drawn at random")
    }
}
