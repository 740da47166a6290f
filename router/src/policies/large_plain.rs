use rand::RngCore;

use super::{Choice, Policy, PolicyKind, Situation, preference};

/// The dearest tier, never with examples: what quality is measured against.
#[derive(Debug)]
pub struct LargePlain;

impl Policy for LargePlain {
    fn kind(&self) -> PolicyKind {
        PolicyKind::LargePlain
    }

    fn choose(&self, situation: &Situation<'_>, _rng: &mut dyn RngCore) -> Choice {
        Choice::generate(preference::dearest(situation.arms, false), "the dearest tier")
    }
}
