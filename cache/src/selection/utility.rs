use crate::Candidate;

/// How much an example is expected to help the answer to this request, in [0, 1].
pub trait Utility: Send + Sync + std::fmt::Debug {
    fn score(&self, candidate: &Candidate) -> f32;
}

/// The prior of a cold cache: likeness, weighted by what is known of the answer.
///
/// ```text
/// u = max(0, similarity) * (FLOOR + (1 - FLOOR) * quality),   quality = UNMEASURED where nothing measured it
/// ```
///
/// A wrong answer is not worthless as an example (it still shows the form), hence the floor; both constants are
/// assumptions until outcomes train a model in its place.
#[derive(Debug, Clone, Copy, Default)]
pub struct SimilarityPrior;

const FLOOR: f32 = 0.4;
const UNMEASURED: f32 = 0.7;

impl Utility for SimilarityPrior {
    fn score(&self, candidate: &Candidate) -> f32 {
        let quality = candidate.example.quality.unwrap_or(UNMEASURED).clamp(0.0, 1.0);
        candidate.similarity.clamp(0.0, 1.0) * (FLOOR + (1.0 - FLOOR) * quality)
    }
}
