use rand::RngCore;

use super::{Choice, Policy, PolicyKind, Situation, preference};
use crate::Action;

/// The nearest example's answer as it is, whatever its similarity; the dearest tier where there is none.
///
/// What a semantic cache does. It exists as the baseline that shows why likeness is no licence to answer.
#[derive(Debug)]
pub struct Reuse;

impl Policy for Reuse {
    fn kind(&self) -> PolicyKind {
        PolicyKind::Reuse
    }

    fn choose(&self, situation: &Situation<'_>, _rng: &mut dyn RngCore) -> Choice {
        let index = preference::dearest(situation.arms, false);
        let context = situation.context;
        if context.similarities.is_empty() || context.max_examples == Some(0) {
            return Choice::generate(index, "no answer to reuse: the dearest tier");
        }
        let nearest = context.similarities.iter().copied().fold(f32::MIN, f32::max);
        Choice {
            index,
            action: Action::Reuse,
            reason: format!("the nearest answer, at similarity {nearest:.3}"),
        }
    }
}
