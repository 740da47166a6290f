//! Whether what a trained model chooses is answered better. A model may foretell single examples well and choose worse: the best of many
//! guesses is often the one that errs most upwards (`replay/bench/runs/2026-11-26-h100`, ablations).

use std::collections::HashMap;

use crate::harness::outcome::Outcome;
use crate::stats::{Bootstrap, Estimate, bootstrap_mean};

/// Score with the examples of `model-K` less the score with those of `prior-K`, over requests that have both, from the same pool and
/// tier. `None` if there is none.
#[must_use]
pub fn difference(outcomes: &[Outcome]) -> Option<Estimate> {
    let name = |outcome: &Outcome, count: &str| {
        (outcome.id.clone(), outcome.tier.clone(), outcome.pool.clone(), count.to_owned())
    };
    let of = |kind: &'static str| {
        outcomes.iter().filter_map(move |outcome| {
            let count = outcome.arm.strip_prefix(kind).filter(|count| count.parse::<usize>().is_ok())?;
            Some((name(outcome, count), outcome.score))
        })
    };
    let prior: HashMap<_, f64> = of("prior-").collect();
    let differences: Vec<f64> =
        of("model-").filter_map(|(name, score)| Some(score - prior.get(&name)?)).collect();
    bootstrap_mean(&differences, Bootstrap::default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::harness::testing::outcome;

    #[test]
    fn like_is_compared_with_like() {
        let mut outcomes = vec![
            outcome("a", "small", "prior-5", 1.0),
            outcome("a", "small", "model-5", 0.0),
            outcome("b", "small", "prior-5", 0.5),
            outcome("b", "small", "model-5", 0.5),
        ];
        let found = difference(&outcomes).unwrap();
        assert_eq!((found.n, found.mean), (2, -0.5));
        assert!(found.low >= -1.0 && found.high <= 0.0, "{found:?}");
        // Another count, another tier, and options: with nothing to compare.
        outcomes.truncate(1);
        outcomes.push(outcome("a", "small", "model-3", 1.0));
        outcomes.push(outcome("a", "large", "model-5", 1.0));
        outcomes.push(outcome("a", "small", "model-5+tau=0", 1.0));
        assert!(difference(&outcomes).is_none());
    }
}
