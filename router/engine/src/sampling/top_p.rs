//! Nucleus sampling (arXiv 1904.09751): only the fewest likeliest tokens whose probabilities reach `top_p`.

use super::candidates::{Candidate, total};

/// A logit that all of the nucleus reach, for not looking at each of `count` tokens: those below it, all together, weigh
/// less than what may be left out. `mass` is the weight of all, where the likeliest, with the logit `top`, weighs 1.
pub(super) fn floor(top: f32, temperature: f32, top_p: f32, mass: f64, count: usize) -> f32 {
    let least = (1.0 - f64::from(top_p)) * mass / count as f64;
    // A hair lower, for the rounding.
    top + temperature * (least.ln() as f32 - 1e-3)
}

/// Keeps the nucleus, in the order of `candidates`. `mass` is the weight of all tokens that could be drawn. Linear: the
/// cut is looked for by halving, not by sorting.
pub(super) fn keep(candidates: &mut Vec<Candidate>, top_p: f32, mass: f64) {
    let mut wanted = f64::from(top_p) * mass;
    let mut scratch = candidates.clone();
    let mut rest = scratch.as_mut_slice();
    let last = loop {
        match rest {
            [] => return,
            [last] => break *last,
            _ => {}
        }
        let middle = rest.len() / 2;
        rest.select_nth_unstable_by(middle, Candidate::order);
        let (likelier, others) = rest.split_at_mut(middle);
        let reached = total(likelier);
        if reached >= wanted {
            rest = likelier;
        } else {
            wanted -= reached;
            rest = others;
        }
    };
    candidates.retain(|candidate| candidate.order(&last).is_le());
}
