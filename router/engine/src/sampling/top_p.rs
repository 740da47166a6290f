//! Nucleus sampling (arXiv 1904.09751): only the fewest likeliest tokens whose probabilities reach `top_p`.

use super::{
    blocks::Maxima,
    candidates::{Candidate, candidates, total},
};

/// How far below the likeliest token the nucleus is looked for first, in natural logarithms of probability: a model that
/// knows what to say has it within a few, and then only a few blocks are looked into.
const DEPTHS: [f32; 3] = [3.0, 6.0, 9.0];

/// Tokens among which all of the nucleus is, ascending; as few as can be told without sorting. `mass` is the weight of
/// all, where the likeliest weighs 1.
pub(super) fn reaching(
    logits: &[f32],
    maxima: &Maxima,
    temperature: f32,
    top_p: f32,
    mass: f64,
) -> Vec<Candidate> {
    let wanted = f64::from(top_p) * mass;
    let scale = temperature.recip();
    // Tokens below it, all together, weigh less than what may be left out; a hair lower, for the rounding.
    let least = (1.0 - f64::from(top_p)) * mass / logits.len() as f64;
    let least = least.ln() as f32 - 1e-3;
    for depth in DEPTHS.into_iter().filter(|depth| -depth > least) {
        let likely = candidates(logits, maxima, maxima.top() - temperature * depth, scale);
        if total(&likely) >= wanted {
            return likely;
        }
    }
    candidates(logits, maxima, maxima.top() + temperature * least, scale)
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
