//! Self-consistency (Wang et al. 2203.11171): what a model says again and again is more often right than what it said
//! once. The best new answer is the medoid: the one that agrees most with the other samples. Agreement of two answers is
//! 1 or 0 for short ones (the same after normalising: a majority vote), else the mean of token F1 and ROUGE-L.
//!
//! The stored answer is measured against the same samples as the medoid. Agreement is not truth: a model that is
//! consistently wrong agrees with itself. So the medoid must agree with at least half of the samples, and the stored
//! answer is replaced only if the medoid is clearly ahead.

use async_trait::async_trait;

use super::{Case, Judge, JudgeError, Ruling};
use crate::score::{rouge_l, same_phrase, token_f1, word_count};

/// Answers of at most so many words are compared as a whole.
const SHORT_WORDS: usize = 6;
/// Samples, the one at temperature 0 included, below which agreement means nothing.
const FEWEST: usize = 3;

#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Agreement {
    /// The medoid must agree with the others at least this much, in [0, 1].
    pub least: f64,
    /// And more than the stored answer by this much.
    pub margin: f64,
}

impl Default for Agreement {
    fn default() -> Self {
        Self { least: 0.5, margin: 0.05 }
    }
}

#[async_trait]
impl Judge for Agreement {
    fn name(&self) -> &'static str {
        "agreement"
    }

    async fn rule(&self, case: Case<'_>) -> Result<Ruling, JudgeError> {
        if case.fresh.len() < FEWEST {
            return Err(JudgeError::CannotSay("too few whole answers to agree"));
        }
        let texts: Vec<&str> = case.fresh.iter().map(|answer| answer.text.as_str()).collect();
        let Some((medoid, support)) = medoid(&texts) else {
            return Err(JudgeError::CannotSay("too few whole answers to agree"));
        };
        let stored = mean_agreement(&case.stored.text, &texts, medoid);
        let better = support >= self.least
            && support > stored + self.margin
            && !same_phrase(&case.stored.text, texts[medoid]);
        Ok(Ruling {
            better: better.then_some(medoid),
            new_quality: quality(support, texts.len() - 1),
            old_quality: quality(stored, texts.len() - 1),
            comparable: true,
            tokens: 0,
            why: format!(
                "agreement with the other {} samples: {support:.2}, stored {stored:.2}",
                texts.len() - 1
            ),
        })
    }
}

/// Laplace's rule, as if one more sample had agreed and one had not: a handful of samples that agree is no certainty,
/// and the quality is stored beside those that were measured.
fn quality(agreement: f64, samples: usize) -> f32 {
    let samples = samples as f64;
    ((agreement * samples + 1.0) / (samples + 2.0)) as f32
}

/// The answer that agrees most with the others, and how much. Of equals the first: the one at temperature 0.
pub(super) fn medoid(texts: &[&str]) -> Option<(usize, f64)> {
    let mut best: Option<(usize, f64)> = None;
    for (index, text) in texts.iter().enumerate() {
        let support = mean_agreement(text, texts, index);
        if best.is_none_or(|(_, most)| support > most + 1e-12) {
            best = Some((index, support));
        }
    }
    best
}

/// Mean agreement of `text` with all of `texts` but the one at `left_out`.
fn mean_agreement(text: &str, texts: &[&str], left_out: usize) -> f64 {
    let others: Vec<f64> = texts
        .iter()
        .enumerate()
        .filter(|(index, _)| *index != left_out)
        .map(|(_, other)| agreement(text, other))
        .collect();
    if others.is_empty() { 0.0 } else { others.iter().sum::<f64>() / others.len() as f64 }
}

fn agreement(a: &str, b: &str) -> f64 {
    if word_count(a) <= SHORT_WORDS && word_count(b) <= SHORT_WORDS {
        f64::from(same_phrase(a, b))
    } else {
        f64::midpoint(token_f1(a, b), rouge_l(a, b))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::curate::author::{Author, Written};

    fn written(text: &str, by: &str) -> Written {
        Written { text: text.into(), author: Author { name: by.into(), model: Some(format!("model-{by}")) } }
    }

    async fn rule(stored: &str, fresh: &[&str]) -> Result<Ruling, JudgeError> {
        let stored = written(stored, "small");
        let fresh: Vec<Written> = fresh.iter().map(|text| written(text, "large")).collect();
        Agreement::default().rule(Case { request: "r", stored: &stored, fresh: &fresh, tiers: &[] }).await
    }

    #[tokio::test]
    async fn a_majority_of_short_answers_beats_a_stored_outsider() {
        let ruling = rule("Lyon", &["Paris", "Paris.", "Nice", "paris"]).await.unwrap();
        assert_eq!(ruling.better, Some(0));
        // Two of three others agree, none with the stored one: (2 + 1) / 5 and (0 + 1) / 5.
        assert!((ruling.new_quality - 0.6).abs() < 1e-6 && (ruling.old_quality - 0.2).abs() < 1e-6);
    }

    #[tokio::test]
    async fn the_stored_answer_stands_if_it_is_the_majority() {
        let ruling = rule("PARIS", &["Nice", "Paris", "Paris", "Lyon"]).await.unwrap();
        assert_eq!(ruling.better, None);
    }

    #[tokio::test]
    async fn a_model_without_an_opinion_replaces_nothing() {
        let ruling = rule("Lyon", &["Paris", "Nice", "Lille", "Brest"]).await.unwrap();
        assert_eq!(ruling.better, None);
        assert!(matches!(rule("Lyon", &["Paris", "Paris"]).await, Err(JudgeError::CannotSay(_))));
    }

    #[tokio::test]
    async fn long_answers_are_compared_by_overlap() {
        let ruling = rule(
            "dogs bark at night whenever somebody walks past the garden fence",
            &[
                "cats, it is said, like to sleep in boxes and on keyboards",
                "the cat sat on the old red mat by the door",
                "the cat sat on the old red mat by the window",
                "a cat sat on the old red mat by the door",
            ],
        )
        .await
        .unwrap();
        assert!(matches!(ruling.better, Some(1..=3)), "{ruling:?}");
        assert!(ruling.new_quality > ruling.old_quality);
    }
}
