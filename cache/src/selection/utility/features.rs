use super::Query;
use crate::Candidate;

/// Numbers that the model sees beside the two embeddings.
pub const SCALARS: usize = 8;

/// What is known of an example beside its embedding.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Traits {
    /// Cosine similarity to the request.
    pub similarity: f32,
    /// Of the nearest candidate of the same request.
    pub nearest: f32,
    /// Measured quality of its answer, in [0, 1].
    pub quality: Option<f32>,
    /// Bytes of its request and answer.
    pub bytes: usize,
}

impl Traits {
    pub(super) fn of(candidate: &Candidate, nearest: f32) -> Self {
        let example = &candidate.example;
        Self {
            similarity: candidate.similarity,
            nearest,
            quality: example.quality,
            bytes: example.request.len() + example.answer.len(),
        }
    }
}

/// | index | feature | scale |
/// |---|---|---|
/// | 0 | similarity | `2 s - 1` |
/// | 1 | its square | `s^2` |
/// | 2 | how much less alike than the nearest | `4 (nearest - s)` |
/// | 3, 4 | quality, and whether it was measured | `2 q - 1`, 0 where unmeasured; 0 or 1 |
/// | 5 | size of the example | `ln(1 + bytes / 4) / 8` |
/// | 6 | size of the request | as above |
/// | 7 | strength of the tier | in [0, 1] |
///
/// Each lies in [-1, 2]; what is not finite counts as 0.
#[must_use]
pub fn scalars(traits: &Traits, request_bytes: usize, strength: f32) -> [f32; SCALARS] {
    let size = |bytes: usize| (1.0 + bytes as f32 / 4.0).ln() / 8.0;
    let Traits { similarity, nearest, quality, bytes } = *traits;
    [
        2.0 * similarity - 1.0,
        similarity * similarity,
        4.0 * (nearest - similarity),
        quality.map_or(0.0, |quality| 2.0 * quality - 1.0),
        f32::from(u8::from(quality.is_some())),
        size(bytes),
        size(request_bytes),
        strength,
    ]
    .map(|value| if value.is_finite() { value.clamp(-1.0, 2.0) } else { 0.0 })
}

pub(super) fn of(query: &Query<'_>, candidate: &Candidate, nearest: f32) -> [f32; SCALARS] {
    scalars(&Traits::of(candidate, nearest), query.bytes, query.strength)
}
