//! One known good pair of an import: what is accepted from outside, checked before anything is embedded or stored.

use serde::Deserialize;
use serde_json::Value;

/// A longer question would be cut by the embedder, and as an example would leave no room for the real one.
pub const MAX_REQUEST_BYTES: usize = 32 << 10;
pub const MAX_ANSWER_BYTES: usize = 64 << 10;
const MAX_SOURCE_BYTES: usize = 64;
const IMPORTED: &str = "import";

/// A pair that may be embedded.
#[derive(Debug, Clone, PartialEq)]
pub struct Pair {
    pub request: String,
    pub answer: String,
    /// The system prompt that the answer was given under.
    pub instructions: Option<String>,
    /// In [0, 1].
    pub quality: Option<f32>,
    /// What stands where a tier's name stands for an answer of our own.
    pub source: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, expecting = "an object with request and answer")]
struct RawPair {
    request: String,
    answer: String,
    #[serde(default)]
    instructions: Option<String>,
    #[serde(default)]
    quality: Option<f32>,
    #[serde(default)]
    source: Option<String>,
}

#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum PairError {
    #[error("{0}")]
    Shape(String),
    #[error("{0} is empty")]
    Empty(&'static str),
    #[error("{field} has {bytes} bytes; at most {most} are accepted")]
    Long { field: &'static str, bytes: usize, most: usize },
    #[error("{0} holds a NUL character")]
    Nul(&'static str),
    #[error("quality is not in [0, 1]")]
    Quality,
    #[error("source holds more than letters, digits and ._:/-")]
    Source,
}

impl Pair {
    pub fn parse(value: Value) -> Result<Self, PairError> {
        let raw: RawPair =
            serde_json::from_value(value).map_err(|error| PairError::Shape(error.to_string()))?;
        check_text("request", &raw.request, MAX_REQUEST_BYTES)?;
        check_answer(&raw.answer)?;
        raw.instructions.as_deref().map_or(Ok(()), check_instructions)?;
        raw.quality.map_or(Ok(()), check_quality)?;
        let source = raw.source.clone().unwrap_or_else(|| IMPORTED.to_owned());
        check_source(&source)?;
        let RawPair { request, answer, instructions, quality, .. } = raw;
        Ok(Self { request, answer, instructions, quality, source })
    }
}

pub fn check_answer(answer: &str) -> Result<(), PairError> {
    check_text("answer", answer, MAX_ANSWER_BYTES)
}

/// Empty ones are none.
fn check_instructions(text: &str) -> Result<(), PairError> {
    if text.is_empty() { Ok(()) } else { check_text("instructions", text, MAX_REQUEST_BYTES) }
}

pub fn check_quality(quality: f32) -> Result<(), PairError> {
    if (0.0..=1.0).contains(&quality) { Ok(()) } else { Err(PairError::Quality) }
}

/// A name of a tier or of a data set: it ends up in logs and in the console.
pub fn check_source(source: &str) -> Result<(), PairError> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "._:/-".contains(c);
    if source.is_empty() {
        return Err(PairError::Empty("source"));
    }
    if source.len() > MAX_SOURCE_BYTES {
        return Err(PairError::Long { field: "source", bytes: source.len(), most: MAX_SOURCE_BYTES });
    }
    if source.chars().all(plain) { Ok(()) } else { Err(PairError::Source) }
}

fn check_text(field: &'static str, text: &str, most: usize) -> Result<(), PairError> {
    if text.trim().is_empty() {
        return Err(PairError::Empty(field));
    }
    if text.len() > most {
        return Err(PairError::Long { field, bytes: text.len(), most });
    }
    if text.contains('\0') { Err(PairError::Nul(field)) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_pair_needs_no_more_than_a_question_and_an_answer() {
        let pair = Pair::parse(json!({"request": "q", "answer": "a"})).unwrap();
        assert_eq!((pair.quality, pair.source.as_str()), (None, "import"));
        let pair =
            Pair::parse(json!({"request": "q", "answer": "a", "quality": 1, "source": "nq/dev"})).unwrap();
        assert_eq!((pair.quality, pair.source.as_str()), (Some(1.0), "nq/dev"));
    }

    #[test]
    fn each_fault_has_its_reason() {
        let long = "x".repeat(MAX_ANSWER_BYTES + 1);
        for (value, reason) in [
            (json!({"request": " \n", "answer": "a"}), "request is empty"),
            (json!({"request": "q", "answer": ""}), "answer is empty"),
            (json!({"request": "q", "answer": long}), "answer has 65537 bytes; at most 65536 are accepted"),
            (json!({"request": "q\u{0}", "answer": "a"}), "request holds a NUL character"),
            (json!({"request": "q", "answer": "a", "quality": 1.1}), "quality is not in [0, 1]"),
            (json!({"request": "q", "answer": "a", "quality": -0.1}), "quality is not in [0, 1]"),
            (
                json!({"request": "q", "answer": "a", "source": "<b>"}),
                "source holds more than letters, digits and ._:/-",
            ),
            (json!({"request": "q"}), "missing field `answer`"),
            (json!("q"), "invalid type: string \"q\", expected an object with request and answer"),
        ] {
            assert_eq!(Pair::parse(value).unwrap_err().to_string(), reason);
        }
    }

    #[test]
    fn an_unknown_field_is_a_mistake_to_tell() {
        let refused = Pair::parse(json!({"request": "q", "answer": "a", "qualty": 1.0})).unwrap_err();
        assert!(refused.to_string().contains("qualty"), "{refused}");
    }
}
