use rand::RngCore;

use super::{Choice, Policy, PolicyKind, Situation, preference};

/// The cheapest tier, with examples where any were selected.
#[derive(Debug)]
pub struct SmallExamples;

impl Policy for SmallExamples {
    fn kind(&self) -> PolicyKind {
        PolicyKind::SmallExamples
    }

    fn choose(&self, situation: &Situation<'_>, _rng: &mut dyn RngCore) -> Choice {
        Choice::generate(
            preference::cheapest(situation.arms, true),
            "the cheapest tier, with what examples there are",
        )
    }
}
