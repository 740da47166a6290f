//! A request as a fixed-length vector for the linear models.
//!
//! | index | feature | scale |
//! |---|---|---|
//! | 0 | bias | 1 |
//! | 1, 2 | similarity of the examples: greatest, mean | `2 s - 1`: 0 at cosine 0.5, 1 at a twin |
//! | 3, 4 | utility: greatest, mean | `2 u - 1` |
//! | 5 | utility: sum | `sum / K`, K = 5 |
//! | 6 | count of examples | `n / K` |
//! | 7, 8 | tokens of the examples, of the prompt | `ln(1 + t) / ln(1 + 8192)` |
//! | 9..14 | code, maths, question, label-like, long-form | 0 or 1 |
//! | 14..22 | random projection of the embedding | `y / 2` |
//!
//! Projection (Achlioptas 2003, "Database-friendly random projections"): `y_j = sum_i r_ij e_i` with `r_ij` = +1 or -1
//! from a hash of (seed, i). For a unit vector each `y_j` has mean 0 and variance 1. No matrix is kept, any length of
//! embedding works, and the seed is a constant because learned weights mean nothing under another one.
//!
//! Everything is clamped to [-1, 1] and what is not finite counts as 0, so that no input can hurt a posterior.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::Context;

pub const DIMENSIONS: usize = PROJECTION + PROJECTED;
/// Changes whenever a feature changes its meaning: what was learned under another version is dropped.
pub const VERSION: u32 = 1;

pub(crate) const SIMILARITY_TOP: usize = 1;
pub(crate) const SIMILARITY_MEAN: usize = 2;
pub(crate) const UTILITY_TOP: usize = 3;
const UTILITY_MEAN: usize = 4;
const UTILITY_SUM: usize = 5;
const COUNT: usize = 6;
const EXAMPLE_TOKENS: usize = 7;
const PROMPT_TOKENS: usize = 8;
const FLAGS: usize = 9;
const PROJECTION: usize = 14;
const PROJECTED: usize = 8;

const TYPICAL_EXAMPLES: f64 = 5.0;
const LARGE_TOKENS: f64 = 8192.0;
const PROJECTION_SEED: u64 = 0x5265_7072_6973_6531;

/// A request's features, each in [-1, 1].
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(from = "[f64; DIMENSIONS]")]
pub struct Features([f64; DIMENSIONS]);

impl Features {
    #[must_use]
    pub fn of(context: &Context<'_>) -> Self {
        let mut x = [0.0; DIMENSIONS];
        x[0] = 1.0;
        if !context.similarities.is_empty() {
            let similarity = Summary::of(context.similarities);
            x[SIMILARITY_TOP] = centred(similarity.top);
            x[SIMILARITY_MEAN] = centred(similarity.mean);
            let utility = Summary::of(context.utilities);
            x[UTILITY_TOP] = centred(utility.top);
            x[UTILITY_MEAN] = centred(utility.mean);
            x[UTILITY_SUM] = utility.sum / TYPICAL_EXAMPLES;
            x[COUNT] = context.similarities.len() as f64 / TYPICAL_EXAMPLES;
            x[EXAMPLE_TOKENS] = log_tokens(context.example_tokens);
        }
        x[PROMPT_TOKENS] = log_tokens(context.prompt_tokens);
        let flags = context.flags;
        for (slot, flag) in x[FLAGS..PROJECTION].iter_mut().zip([
            flags.code,
            flags.maths,
            flags.question,
            flags.label_like,
            flags.long_form,
        ]) {
            *slot = f64::from(u8::from(flag));
        }
        if let Some(embedding) = context.embedding {
            x[PROJECTION..].copy_from_slice(&project(embedding));
        }
        Self::from(x)
    }

    #[must_use]
    pub fn as_slice(&self) -> &[f64; DIMENSIONS] {
        &self.0
    }

    /// The same request as an arm without examples sees it: what it is not shown cannot matter to its answer.
    #[must_use]
    pub fn without_examples(mut self) -> Self {
        self.0[SIMILARITY_TOP..=EXAMPLE_TOKENS].fill(0.0);
        self
    }
}

impl From<[f64; DIMENSIONS]> for Features {
    fn from(mut x: [f64; DIMENSIONS]) -> Self {
        for value in &mut x {
            *value = if value.is_finite() { value.clamp(-1.0, 1.0) } else { 0.0 };
        }
        Self(x)
    }
}

struct Summary {
    top: f64,
    mean: f64,
    sum: f64,
}

impl Summary {
    fn of(values: &[f32]) -> Self {
        let (mut top, mut sum, mut count) = (0.0_f64, 0.0, 0.0);
        for value in values.iter().filter(|value| value.is_finite()) {
            let value = f64::from(*value).clamp(0.0, 1.0);
            top = top.max(value);
            sum += value;
            count += 1.0;
        }
        Self { top, mean: if count > 0.0 { sum / count } else { 0.0 }, sum }
    }
}

fn centred(value: f64) -> f64 {
    2.0 * value - 1.0
}

fn log_tokens(tokens: u32) -> f64 {
    (1.0 + f64::from(tokens)).ln() / (1.0 + LARGE_TOKENS).ln()
}

fn project(embedding: &[f32]) -> [f64; PROJECTED] {
    let mut projected = [0.0; PROJECTED];
    for (i, value) in embedding.iter().enumerate() {
        let value = f64::from(*value);
        let signs = splitmix64(PROJECTION_SEED.wrapping_add(i as u64));
        for (j, sum) in projected.iter_mut().enumerate() {
            *sum += if signs >> j & 1 == 0 { value } else { -value };
        }
    }
    projected.map(|sum| sum / 2.0)
}

/// Steele, Lea, Flood 2014: one step of SplitMix64, used as a hash.
fn splitmix64(seed: u64) -> u64 {
    let mut z = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_twin_example_has_top_similarity_one_and_none_has_zero() {
        let with = Features::of(&Context {
            similarities: &[0.6, 1.0],
            utilities: &[0.5, 0.5],
            ..Context::default()
        });
        assert!((with.0[SIMILARITY_TOP] - 1.0).abs() < 1e-9);
        assert!((with.0[SIMILARITY_MEAN] - 0.6).abs() < 1e-6);
        assert_eq!(with.without_examples(), Features::of(&Context::default()));
    }

    #[test]
    fn projection_keeps_scale_and_tells_vectors_apart() {
        let unit = |hot: usize| {
            let mut v = vec![0.0_f32; 384];
            v[hot] = 1.0;
            v
        };
        let (a, b) = (project(&unit(3)), project(&unit(4)));
        assert!(a.iter().all(|y| (y.abs() - 0.5).abs() < 1e-12));
        assert_ne!(a, b);
    }

    proptest! {
        #[test]
        fn any_input_is_finite_and_within_one(
            embedding in prop::collection::vec(any::<f32>(), 0..400),
            utilities in prop::collection::vec(any::<f32>(), 0..8),
            similarities in prop::collection::vec(any::<f32>(), 0..8),
            example_tokens: u32, prompt_tokens: u32,
        ) {
            let x = Features::of(&Context {
                embedding: Some(&embedding), utilities: &utilities, similarities: &similarities,
                example_tokens, prompt_tokens, ..Context::default()
            });
            prop_assert!(x.as_slice().iter().all(|v| v.is_finite() && v.abs() <= 1.0));
        }

        #[test]
        fn order_of_examples_does_not_matter(mut s in prop::collection::vec(0.0_f32..1.0, 1..6)) {
            let of = |s: &[f32]| Features::of(&Context { similarities: s, utilities: s, ..Context::default() });
            let before = of(&s);
            s.reverse();
            let after = of(&s);
            prop_assert!(before.0.iter().zip(after.0).all(|(a, b)| (a - b).abs() < 1e-12));
        }
    }
}
