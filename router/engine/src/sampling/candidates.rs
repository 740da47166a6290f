use super::blocks::{Maxima, weight};

/// A token that may be drawn.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Candidate {
    pub(super) token: u32,
    pub(super) logit: f32,
    /// Its probability, but for a factor that all share; the likeliest has 1.
    pub(super) weight: f32,
}

impl Candidate {
    /// Likelier first; of equals the lower id.
    pub(super) fn order(&self, other: &Self) -> std::cmp::Ordering {
        other.logit.total_cmp(&self.logit).then(self.token.cmp(&other.token))
    }
}

/// All tokens whose logit is at least `floor`, ascending; `scale` is 1 / temperature.
pub(super) fn candidates(logits: &[f32], maxima: &Maxima, floor: f32, scale: f32) -> Vec<Candidate> {
    let candidate = |(token, logit)| Candidate { token, logit, weight: weight(logit, maxima.top(), scale) };
    maxima.tokens_from(floor, logits).map(candidate).collect()
}

pub(super) fn total(candidates: &[Candidate]) -> f64 {
    candidates.iter().map(|candidate| f64::from(candidate.weight)).sum()
}
