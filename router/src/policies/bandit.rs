use rand::RngCore;

use super::{Choice, Policy, PolicyKind, Situation};
use crate::ArmScore;

/// The arm whose drawn quality, less the load bias on its cost, is greatest; among those that are alike, the cheapest.
///
/// `S_i = draw_i - lambda0 * tanh(gamma * max(0, L - theta)) * C_i`. Differences under `indifference` are smaller than
/// feedback can measure, and a saving is certain: so they do not decide.
#[derive(Debug)]
pub struct ThompsonSampling {
    pub indifference: f64,
}

impl Policy for ThompsonSampling {
    fn kind(&self) -> PolicyKind {
        PolicyKind::Bandit
    }

    fn choose(&self, situation: &Situation<'_>, _rng: &mut dyn RngCore) -> Choice {
        let best = situation.arms.iter().map(|arm| arm.score).fold(f64::NEG_INFINITY, f64::max);
        let chosen = situation
            .arms
            .iter()
            .enumerate()
            .filter(|(_, arm)| arm.score >= best - self.indifference)
            .min_by(|(_, a), (_, b)| a.cost.total_cmp(&b.cost));
        let Some((index, arm)) = chosen else { return Choice::generate(0, "no arm has a score") };
        Choice::generate(index, reason(arm, best))
    }
}

fn reason(arm: &ArmScore, best: f64) -> String {
    let ArmScore { key, score, mu, sigma, bias, .. } = arm;
    let verdict = if *score < best { "within reach of the best and cheaper" } else { "best" };
    format!("{key} is {verdict}: score {score:.3}, quality {mu:.3} ± {sigma:.3}, load bias {bias:.3}")
}
