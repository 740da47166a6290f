use rand::RngCore;

use super::{Choice, Policy, PolicyKind, Situation, preference};

/// The cheapest tier, never with examples.
#[derive(Debug)]
pub struct SmallPlain;

impl Policy for SmallPlain {
    fn kind(&self) -> PolicyKind {
        PolicyKind::SmallPlain
    }

    fn choose(&self, situation: &Situation<'_>, _rng: &mut dyn RngCore) -> Choice {
        Choice::generate(preference::cheapest(situation.arms, false), "the cheapest tier")
    }
}
