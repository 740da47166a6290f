//! The ways to make a prompt that are compared, each with a name that says it whole.
//!
//! | name | examples |
//! |---|---|
//! | `plain` | none |
//! | `near-K` | the K most similar, most similar last |
//! | `random-K` | K of the pool, by the seed; another with `+seed=2` |
//! | `sample-S` | none, and the answer is drawn under seed S as curation draws its own |
//! | `rank-R` | the one at rank R by similarity, alone: what a utility model is trained on |
//! | `prior-K`, `model-K` | as the gateway selects, by the similarity prior or by the trained model: up to K |
//!
//! Behind `prior-K` and `model-K` options may stand: `+div=0.5` (weight of diversity), `+tau=0.3`, `+tokens=300` (budget),
//! `+order=reverse` (most useful first), `+order=similar` (most similar last).

use std::fmt;
use std::str::FromStr;

use reprise_cache::Candidate;
use reprise_cache::selection::{Chosen, SelectionConfig, SimilarityPrior, Utility, select};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::library::{Library, Seeker};
use super::table::Sampling;

/// Stage 1 in the harness, as in the gateway's default.
pub const TOP_K: usize = 32;
/// The default of `curate`.
const DRAWN_AT: f64 = 0.8;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Arm {
    name: String,
    how: How,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum How {
    Plain,
    Sample(u64),
    Near(usize),
    Random { count: usize, seed: Option<u64> },
    Rank(usize),
    Select { by: By, options: Options, count: usize },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum By {
    Prior,
    Model,
}

#[derive(Debug, Clone, Copy, PartialEq)]
struct Options {
    diversity: f32,
    tau: Option<f32>,
    tokens: u32,
    order: Order,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Order {
    UsefulLast,
    UsefulFirst,
    SimilarLast,
}

#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("no such arm: {0:?}")]
pub struct UnknownArm(String);

/// An example that an arm shows.
#[derive(Debug, Clone)]
pub struct Shown {
    pub candidate: Candidate,
    /// By whichever utility chose it; its similarity where none did.
    pub utility: f32,
}

/// What arms are made with.
#[derive(Debug)]
pub struct Makings<'a> {
    pub library: &'a Library,
    /// For `model-K`.
    pub model: Option<&'a dyn Utility>,
    /// Of the tier that is asked.
    pub strength: f32,
    pub seed: u64,
}

impl Arm {
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    #[must_use]
    pub fn sampling(&self) -> Sampling {
        match self.how {
            How::Sample(seed) => Sampling::Drawn { temperature: DRAWN_AT, seed },
            _ => Sampling::Greedy,
        }
    }

    /// True if it shows examples, and so needs embeddings.
    #[must_use]
    pub fn needs_library(&self) -> bool {
        !matches!(self.how, How::Plain | How::Sample(_))
    }

    /// True if it needs a trained model.
    #[must_use]
    pub fn needs_model(&self) -> bool {
        matches!(self.how, How::Select { by: By::Model, .. })
    }

    /// The examples in the prompt's order. `found`: the [`TOP_K`] nearest, nearest first.
    #[must_use]
    pub fn examples(&self, seeker: &Seeker, found: &[Candidate], makings: &Makings<'_>) -> Vec<Shown> {
        let Makings { library, model, strength, seed } = *makings;
        let shown =
            |candidate: &Candidate| Shown { utility: candidate.similarity, candidate: candidate.clone() };
        match self.how {
            How::Plain | How::Sample(_) => Vec::new(),
            How::Near(count) => found.iter().take(count).rev().map(shown).collect(),
            How::Random { count, seed: own } => {
                library.random(seeker, count, own.unwrap_or(seed)).iter().rev().map(shown).collect()
            }
            How::Rank(rank) => found.iter().skip(rank - 1).take(1).map(shown).collect(),
            How::Select { by, options, count } => {
                let utility: &dyn Utility = match (by, model) {
                    (By::Model, Some(model)) => model,
                    _ => &SimilarityPrior,
                };
                options.select(seeker, found, utility, strength, count)
            }
        }
    }
}

impl Options {
    fn select(
        &self,
        seeker: &Seeker,
        found: &[Candidate],
        utility: &dyn Utility,
        strength: f32,
        count: usize,
    ) -> Vec<Shown> {
        let default = SelectionConfig::default();
        let config = SelectionConfig {
            tau: self.tau.or(utility.tau()).unwrap_or(default.tau),
            max_examples: count,
            token_budget: self.tokens,
            diversity: self.diversity,
            ..default
        };
        let tokens = |example: &reprise_cache::Example| {
            u32::try_from((example.request.len() + example.answer.len()) / 4 + 8).unwrap_or(u32::MAX)
        };
        let mut chosen = select(&seeker.query(strength), found, utility, &tokens, &config).chosen;
        match self.order {
            Order::UsefulLast => {}
            Order::UsefulFirst => chosen.reverse(),
            Order::SimilarLast => chosen.sort_by(|a, b| a.similarity.total_cmp(&b.similarity)),
        }
        let shown = |Chosen { example, similarity, utility, .. }| Shown {
            candidate: Candidate { example, similarity },
            utility,
        };
        chosen.into_iter().map(shown).collect()
    }
}

impl FromStr for Arm {
    type Err = UnknownArm;

    fn from_str(name: &str) -> Result<Self, UnknownArm> {
        let unknown = || UnknownArm(name.to_owned());
        let mut parts = name.split('+');
        let base = parts.next().unwrap_or_default();
        let (kind, number) = match base.split_once('-') {
            Some((kind, number)) => (kind, number.parse::<usize>().ok().filter(|number| *number > 0)),
            None => (base, None),
        };
        let default = SelectionConfig::default();
        let mut options = Options {
            diversity: default.diversity,
            tau: None,
            tokens: default.token_budget,
            order: Order::UsefulLast,
        };
        let (mut any, mut seed) = (false, None);
        for option in parts {
            if let Some(number) = option.strip_prefix("seed=").filter(|_| kind == "random") {
                seed = Some(number.parse().map_err(|_| unknown())?);
                continue;
            }
            any = true;
            options.set(option).ok_or_else(unknown)?;
        }
        let how = match (kind, number) {
            ("plain", None) if base == "plain" => How::Plain,
            ("sample", Some(seed)) => How::Sample(seed as u64),
            ("near", Some(count @ ..=TOP_K)) => How::Near(count),
            ("random", Some(count)) => How::Random { count, seed },
            ("rank", Some(rank @ ..=TOP_K)) => How::Rank(rank),
            ("prior", Some(count)) => How::Select { by: By::Prior, options, count },
            ("model", Some(count)) => How::Select { by: By::Model, options, count },
            _ => return Err(unknown()),
        };
        if any && !matches!(how, How::Select { .. }) {
            return Err(unknown());
        }
        Ok(Self { name: name.to_owned(), how })
    }
}

impl Options {
    fn set(&mut self, option: &str) -> Option<()> {
        let (key, value) = option.split_once('=')?;
        let share = || value.parse().ok().filter(|share| (0.0..=1.0).contains(share));
        match (key, value) {
            ("div", _) => self.diversity = share()?,
            ("tau", _) => self.tau = Some(share()?),
            ("tokens", _) => self.tokens = value.parse().ok()?,
            ("order", "reverse") => self.order = Order::UsefulFirst,
            ("order", "similar") => self.order = Order::SimilarLast,
            _ => return None,
        }
        Some(())
    }
}

impl fmt::Display for Arm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.name)
    }
}

impl TryFrom<String> for Arm {
    type Error = UnknownArm;

    fn try_from(name: String) -> Result<Self, UnknownArm> {
        name.parse()
    }
}

impl From<Arm> for String {
    fn from(arm: Arm) -> Self {
        arm.name
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_say_all_and_bad_ones_are_refused() {
        for name in [
            "plain",
            "near-5",
            "random-3",
            "random-3+seed=2",
            "rank-7",
            "sample-1",
            "prior-5",
            "model-5+div=0+tau=0.2+order=reverse",
        ] {
            assert_eq!(name.parse::<Arm>().unwrap().to_string(), name);
        }
        assert!("model-2+tokens=100".parse::<Arm>().unwrap().needs_model());
        for name in [
            "",
            "plain-2",
            "near",
            "near-0",
            "near-33",
            "near-5+div=0.1",
            "near-5+seed=1",
            "model-5+div=2",
            "model-5+order=up",
        ] {
            assert!(name.parse::<Arm>().is_err(), "{name}");
        }
    }
}
