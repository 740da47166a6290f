//! The draw itself: the token at which the running sum of weights, over ascending ids, passes a point.

use super::{
    blocks::{BLOCK, mass, weight},
    candidates::{Candidate, total},
};

/// Of some tokens; `uniform` in [0, 1).
pub(super) fn from_candidates(candidates: &[Candidate], uniform: f64) -> Option<u32> {
    let weighed = candidates.iter().map(|candidate| (candidate.token, candidate.weight));
    passing(weighed, uniform * total(candidates))
}

/// Of all tokens: first the block, then the token in it. `top` is the row's largest logit, `scale` 1 / temperature.
pub(super) fn from_row(logits: &[f32], top: f32, scale: f32, uniform: f64) -> Option<u32> {
    let masses: Vec<f64> = logits.chunks(BLOCK).map(|block| mass(block, top, scale)).collect();
    let mut point = uniform * masses.iter().sum::<f64>();
    let mut chosen = None;
    for (index, mass) in masses.iter().enumerate().filter(|(_, mass)| **mass > 0.0) {
        chosen = Some(index * BLOCK);
        if point < *mass {
            break;
        }
        point -= mass;
    }
    let start = chosen?;
    let block = logits.get(start..)?.iter().take(BLOCK);
    let first = u32::try_from(start).ok()?;
    passing((first..).zip(block.map(|logit| weight(*logit, top, scale))), point)
}

/// The last token that can be drawn, where rounding lets the point lie beyond the end.
fn passing(weighed: impl Iterator<Item = (u32, f32)>, mut point: f64) -> Option<u32> {
    let mut last = None;
    for (token, weight) in weighed.filter(|(_, weight)| *weight > 0.0) {
        last = Some(token);
        let weight = f64::from(weight);
        if point < weight {
            break;
        }
        point -= weight;
    }
    last
}
