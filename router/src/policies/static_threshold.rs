use rand::RngCore;

use super::{Choice, Policy, PolicyKind, Situation, preference};

/// The cheapest tier with examples where the nearest one is near enough, else the dearest tier without.
#[derive(Debug)]
pub struct StaticThreshold {
    /// Cosine similarity that is near enough.
    pub similarity: f64,
}

impl Policy for StaticThreshold {
    fn kind(&self) -> PolicyKind {
        PolicyKind::StaticThreshold
    }

    fn choose(&self, situation: &Situation<'_>, _rng: &mut dyn RngCore) -> Choice {
        let nearest = situation.context.similarities.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let threshold = self.similarity;
        if f64::from(nearest) >= threshold && situation.context.max_examples != Some(0) {
            let reason = format!("similarity {nearest:.3} reaches {threshold:.3}");
            Choice::generate(preference::cheapest(situation.arms, true), reason)
        } else {
            let reason = format!("no example reaches similarity {threshold:.3}");
            Choice::generate(preference::dearest(situation.arms, false), reason)
        }
    }
}
