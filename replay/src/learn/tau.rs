//! tau: the least utility of an example that is worth its tokens.
//!
//! ```text
//! gain(t)   = sum over examples shown alone with u >= t of  score - score of the same request without examples
//! tokens(t) = sum of the tokens they add
//! tau       = argmax of gain(t) / tokens(t)  among t with  gain(t) >= KEPT * max gain
//! ```
//!
//! The ratio alone would show next to nothing: the surest example is the cheapest gain. So most of the gain is kept.

use std::collections::HashMap;

use super::rows::{Part, Row, Rows};
use crate::harness::outcome::Outcome;

/// Share of the greatest gain that tau may not give up.
const KEPT: f64 = 0.9;
const STEPS: u32 = 50;

/// On the calibration part: neither trained on nor reported. 1, which shows nothing, if no example gained anything.
pub fn choose(rows: &Rows, outcomes: &[Outcome], utility: impl Fn(&Row) -> f32) -> f32 {
    let plain: HashMap<&str, f64> = outcomes
        .iter()
        .filter(|outcome| outcome.examples.is_empty())
        .map(|outcome| (outcome.id.as_str(), outcome.score))
        .collect();
    let measured = rows.of(Part::Calibrate).into_iter().filter(|row| row.alone).filter_map(|row| {
        let gain = f64::from(row.label) - plain.get(row.request.as_str())?;
        Some(Tried { utility: utility(row), gain, tokens: f64::from(row.tokens) })
    });
    best(&measured.collect::<Vec<_>>())
}

/// An example shown alone.
#[derive(Debug, Clone, Copy)]
struct Tried {
    utility: f32,
    gain: f64,
    tokens: f64,
}

fn best(tried: &[Tried]) -> f32 {
    let at = |tau: f32| {
        let shown = tried.iter().filter(|tried| tried.utility >= tau);
        shown.fold((0.0, 0.0), |(gain, tokens), tried| (gain + tried.gain, tokens + tried.tokens))
    };
    let sweep: Vec<(f32, f64, f64)> = (0..=STEPS)
        .map(|step| step as f32 / STEPS as f32)
        .map(|tau| {
            let (gain, tokens) = at(tau);
            (tau, gain, tokens)
        })
        .collect();
    let most = sweep.iter().map(|(_, gain, _)| *gain).fold(0.0, f64::max);
    if most <= 0.0 {
        return 1.0;
    }
    let ratio = |(_, gain, tokens): &&(f32, f64, f64)| gain / tokens.max(1.0);
    let kept = sweep.iter().filter(|(_, gain, _)| *gain >= KEPT * most);
    kept.max_by(|a, b| ratio(a).total_cmp(&ratio(b))).map_or(1.0, |(tau, _, _)| *tau)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tried(utility: f32, gain: f64, tokens: f64) -> Tried {
        Tried { utility, gain, tokens }
    }

    #[test]
    fn what_gains_little_for_its_tokens_is_cut_off() {
        let useful = (0..90).map(|_| tried(0.7, 1.0, 20.0));
        let useless = (0..500).map(|_| tried(0.3, 0.01, 20.0));
        let tau = best(&useful.chain(useless).collect::<Vec<_>>());
        assert!(tau > 0.3 && tau <= 0.7, "{tau}");
    }

    #[test]
    fn most_of_the_gain_is_kept_and_harm_shows_nothing() {
        // The surest example has the best ratio, but it is a hundredth of the gain.
        let sure = [tried(0.99, 1.0, 1.0)];
        let rest = (0..99).map(|_| tried(0.5, 1.0, 20.0));
        assert!(best(&sure.into_iter().chain(rest).collect::<Vec<_>>()) <= 0.5);
        assert_eq!(best(&[tried(0.9, -1.0, 20.0)]), 1.0);
        assert_eq!(best(&[]), 1.0);
    }
}
