use rand::RngCore;

use super::{Choice, Policy, PolicyKind, Situation, preference};

/// The dearest tier, with examples where any were selected.
#[derive(Debug)]
pub struct LargeExamples;

impl Policy for LargeExamples {
    fn kind(&self) -> PolicyKind {
        PolicyKind::LargeExamples
    }

    fn choose(&self, situation: &Situation<'_>, _rng: &mut dyn RngCore) -> Choice {
        Choice::generate(
            preference::dearest(situation.arms, true),
            "the dearest tier, with what examples there are",
        )
    }
}
