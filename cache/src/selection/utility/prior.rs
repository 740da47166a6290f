use super::{Query, Utility};
use crate::Candidate;

/// The prior of a cold cache: likeness, weighted by what is known of the answer.
///
/// ```text
/// u = max(0, similarity) * (FLOOR + (1 - FLOOR) * quality),   quality = UNMEASURED where nothing measured it
/// ```
///
/// A wrong answer is not worthless as an example (it still shows the form), hence the floor; both constants are
/// assumptions: they serve only until outcomes have trained a [`UtilityModel`](super::UtilityModel).
#[derive(Debug, Clone, Copy, Default)]
pub struct SimilarityPrior;

const FLOOR: f32 = 0.4;
const UNMEASURED: f32 = 0.7;

impl SimilarityPrior {
    #[must_use]
    pub fn score(similarity: f32, quality: Option<f32>) -> f32 {
        let quality = quality.unwrap_or(UNMEASURED).clamp(0.0, 1.0);
        similarity.clamp(0.0, 1.0) * (FLOOR + (1.0 - FLOOR) * quality)
    }
}

impl Utility for SimilarityPrior {
    fn scores(&self, _query: &Query<'_>, candidates: &[&Candidate]) -> Vec<f32> {
        let score = |candidate: &&Candidate| Self::score(candidate.similarity, candidate.example.quality);
        candidates.iter().map(score).collect()
    }
}
