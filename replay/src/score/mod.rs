//! How an answer is compared with its references. Metrics carry the names the data uses.
//!
//! - `exact_match`: 1 if the first non-empty line of the answer equals a reference after normalising both (case
//!   folded, runs of white space made one, punctuation and white space taken off both ends), else 0. A reference of
//!   several lines is compared with the whole answer.
//! - `contains`: 1 if the words of a reference stand in the answer as one run of words, else 0 (so "art" is not in
//!   "party"). Where the reference is a bare number, numbers are compared by value: against the *last* number of the
//!   answer for GSM8K, where working precedes the result; against any number elsewhere.
//! - `rouge_l`: F1 of the longest common subsequence of words.
//! - `none`: not scored.
//!
//! With several references the best one counts.

mod normalise;
mod number;
mod overlap;

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use thiserror::Error;

pub use overlap::{rouge_l, token_f1};

/// A metric by the name it has in the data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Metric {
    ExactMatch,
    Contains,
    RougeL,
    None,
}

#[derive(Debug, Error)]
#[error("unknown metric {0:?}: exact_match, contains, rouge_l or none")]
pub struct UnknownMetric(String);

/// How a bare number is looked for in an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NumberRule {
    Last,
    Any,
}

impl NumberRule {
    /// GSM8K answers work towards their result; elsewhere the number may stand anywhere in the sentence.
    #[must_use]
    pub fn for_source(source: &str) -> Self {
        if source.starts_with("gsm8k") { Self::Last } else { Self::Any }
    }
}

impl Metric {
    /// The score in [0, 1], or nothing if this metric or these references cannot score.
    #[must_use]
    pub fn score(self, answer: &str, references: &[String], numbers: NumberRule) -> Option<f64> {
        let one = |reference: &String| match self {
            Self::ExactMatch => f64::from(exact_match(answer, reference)),
            Self::Contains => f64::from(contains(answer, reference, numbers)),
            Self::RougeL => rouge_l(answer, reference),
            Self::None => f64::NAN,
        };
        references.iter().map(one).filter(|score| score.is_finite()).reduce(f64::max)
    }
}

impl fmt::Display for Metric {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ExactMatch => "exact_match",
            Self::Contains => "contains",
            Self::RougeL => "rouge_l",
            Self::None => "none",
        })
    }
}

impl FromStr for Metric {
    type Err = UnknownMetric;

    fn from_str(name: &str) -> Result<Self, UnknownMetric> {
        match name {
            "exact_match" => Ok(Self::ExactMatch),
            "contains" => Ok(Self::Contains),
            "rouge_l" => Ok(Self::RougeL),
            "none" => Ok(Self::None),
            _ => Err(UnknownMetric(name.into())),
        }
    }
}

/// True if two answers are the same but for case, spacing and punctuation at the ends.
#[must_use]
pub fn same_phrase(a: &str, b: &str) -> bool {
    normalise::phrase(a) == normalise::phrase(b)
}

#[must_use]
pub fn word_count(text: &str) -> usize {
    normalise::words(text).len()
}

fn exact_match(answer: &str, reference: &str) -> bool {
    let answer = if reference.trim().contains('\n') {
        answer
    } else {
        answer.lines().find(|line| !line.trim().is_empty()).unwrap_or("")
    };
    normalise::phrase(answer) == normalise::phrase(reference)
}

fn contains(answer: &str, reference: &str, rule: NumberRule) -> bool {
    if let Some(wanted) = number::bare(reference) {
        let found = number::all(answer);
        return match rule {
            NumberRule::Last => found.last().is_some_and(|&last| number::same(last, wanted)),
            NumberRule::Any => found.iter().any(|&number| number::same(number, wanted)),
        };
    }
    let (answer, reference) = (normalise::words(answer), normalise::words(reference));
    !reference.is_empty() && answer.windows(reference.len()).any(|run| run == reference)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn score(metric: Metric, answer: &str, references: &[&str]) -> Option<f64> {
        let references: Vec<String> = references.iter().map(ToString::to_string).collect();
        metric.score(answer, &references, NumberRule::Last)
    }

    #[test]
    fn exact_match_forgives_case_ends_and_later_lines() {
        for answer in ["card_arrival", " Card_Arrival. ", "\n\"card_arrival\"\nbecause ..", "`card_arrival`"]
        {
            assert_eq!(score(Metric::ExactMatch, answer, &["card_arrival"]), Some(1.0), "{answer}");
        }
        for answer in ["card arrival", "card_arrivals", "The intent is card_arrival", ""] {
            assert_eq!(score(Metric::ExactMatch, answer, &["card_arrival"]), Some(0.0), "{answer}");
        }
        assert_eq!(score(Metric::ExactMatch, "tail", &["head", "tail"]), Some(1.0));
        assert_eq!(score(Metric::ExactMatch, "(A)", &["(A)"]), Some(1.0));
        assert_eq!(score(Metric::ExactMatch, "] )", &["] )"]), Some(1.0));
        assert_eq!(score(Metric::ExactMatch, ") ]", &["] )"]), Some(0.0));
        assert_eq!(score(Metric::ExactMatch, "a\nb", &["a\nb"]), Some(1.0));
        assert_eq!(score(Metric::ExactMatch, "a\nc", &["a\nb"]), Some(0.0));
    }

    #[test]
    fn contains_looks_for_whole_words() {
        assert_eq!(score(Metric::Contains, "It is in the Bahamas.", &["Bahamas"]), Some(1.0));
        assert_eq!(score(Metric::Contains, "a party", &["art"]), Some(0.0));
        assert_eq!(score(Metric::Contains, "Padmé  amidala, of Naboo", &["Padmé Amidala"]), Some(1.0));
        assert_eq!(score(Metric::Contains, "anything", &["!"]), Some(0.0));
    }

    #[test]
    fn a_bare_number_is_compared_with_the_last_number() {
        let gsm = |answer: &str, reference: &str| score(Metric::Contains, answer, &[reference]);
        assert_eq!(gsm("16 - 3 - 4 = 9, so she makes $18.", "18"), Some(1.0));
        assert_eq!(gsm("The total is 180", "18"), Some(0.0));
        assert_eq!(gsm("18 eggs, of which 9 are left", "18"), Some(0.0));
        assert_eq!(gsm("It costs $70,000.00 in all", "70000"), Some(1.0));
        assert_eq!(gsm("no number", "18"), Some(0.0));
        assert_eq!(gsm("#### -3", "-3"), Some(1.0));
    }

    #[test]
    fn outside_gsm8k_a_number_may_stand_anywhere() {
        let references = ["1963".to_string()];
        let score = |rule| Metric::Contains.score("In 1963, at the age of 46", &references, rule);
        assert_eq!(score(NumberRule::Any), Some(1.0));
        assert_eq!(score(NumberRule::Last), Some(0.0));
    }

    #[test]
    fn nothing_to_compare_with_is_no_score() {
        assert_eq!(score(Metric::None, "a", &["a"]), None);
        assert_eq!(score(Metric::RougeL, "a", &[]), None);
    }
}
