//! Requests for tests.

use crate::harness::outcome::Outcome;
use crate::harness::table::Key;
use crate::harness::testing::{outcome, shown};
use crate::simulate::machine::TierSpeed;
use crate::simulate::requests::{Answers, KnownTier, Logged};

/// A request with the scores of small, small with examples, large, large with examples.
pub fn request(id: &str, scores: [f64; 4]) -> Logged {
    let examples = |tier: &str, score: f64| Outcome {
        examples: vec![shown(Key::of(&["e", id]), 0.9)],
        prompt_tokens: 60,
        ..outcome(id, tier, "prior-5", score)
    };
    let plain = |tier: &str, score: f64| Outcome { reused: Some(0.25), ..outcome(id, tier, "plain", score) };
    Logged {
        id: id.to_owned(),
        set: "s".to_owned(),
        embedding: vec![0.6, 0.8],
        flags: Default::default(),
        utilities: vec![0.9],
        similarities: vec![0.9],
        answers: vec![
            Answers { plain: plain("small", scores[0]), examples: examples("small", scores[1]) },
            Answers { plain: plain("large", scores[2]), examples: examples("large", scores[3]) },
        ],
    }
}

pub fn tiers() -> Vec<KnownTier> {
    let tier = |name: &str, cost| KnownTier { name: name.into(), model: format!("{name}-model"), cost };
    vec![tier("small", 0.1), tier("large", 1.0)]
}

/// The large one ten times slower.
pub fn speeds() -> Vec<TierSpeed> {
    ["small:prefill=1000,decode=100,batch=0.5,slots=3", "large:prefill=100,decode=10,batch=0.5,slots=3"]
        .map(|text| text.parse::<crate::simulate::machine::NamedSpeed>().unwrap().speed)
        .to_vec()
}
