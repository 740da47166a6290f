//! Outcomes for tests.

use super::outcome::{Outcome, REFERENCES, ShownExample, TEST};
use super::table::Key;
use crate::score::Metric;

/// On a tier of strength 1 and cost 1 if it is called `large`, else 0 and 0.1; without examples, 10 prompt tokens and 3 more.
pub fn outcome(id: &str, tier: &str, arm: &str, score: f64) -> Outcome {
    let large = tier == "large";
    Outcome {
        id: id.to_owned(),
        set: "s".to_owned(),
        source: "s".to_owned(),
        task: "t".to_owned(),
        metric: Metric::ExactMatch,
        tier: tier.to_owned(),
        model: format!("{tier}-model"),
        cost: if large { 1.0 } else { 0.1 },
        strength: if large { 1.0 } else { 0.0 },
        split: TEST.to_owned(),
        pool: REFERENCES.to_owned(),
        arm: arm.to_owned(),
        run: Key::of(&["run", id, tier, arm]),
        vector: Key::of(&["vector", id]),
        request_bytes: 40,
        flags: Default::default(),
        examples: Vec::new(),
        nearest: 0.9,
        reused: None,
        score,
        prompt_tokens: 10,
        cached_tokens: 0,
        completion_tokens: 3,
        prefill_s: None,
        decode_s: None,
    }
}

pub fn shown(vector: Key, similarity: f32) -> ShownExample {
    ShownExample { vector, similarity, utility: similarity, quality: None, bytes: 100 }
}
