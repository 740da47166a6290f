//! `POST /v1/completions`: text that is gone on with, without turns.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::chat::{Stop, StreamOptions};
use crate::{FieldError, Usage};

/// As it was sent: types are checked, values are not.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct CompletionRequest {
    pub model: String,
    /// Left out, it is the beginning of a document.
    #[serde(default)]
    pub prompt: Option<Prompt>,
    #[serde(default)]
    pub suffix: Option<String>,
    #[serde(default)]
    pub echo: Option<bool>,
    /// How many of the likeliest tokens are told.
    #[serde(default)]
    #[schemars(range(min = 0, max = 20))]
    pub logprobs: Option<i64>,
    #[serde(default)]
    pub best_of: Option<i64>,
    #[serde(default)]
    #[schemars(range(min = 1, max = 8))]
    pub n: Option<i64>,
    #[serde(default)]
    #[schemars(range(min = 0))]
    pub max_tokens: Option<i64>,
    #[serde(default)]
    pub stop: Option<Stop>,
    #[serde(default)]
    pub stream: Option<bool>,
    #[serde(default)]
    pub stream_options: Option<StreamOptions>,
    #[serde(default)]
    #[schemars(range(min = 0.0, max = 2.0))]
    pub temperature: Option<f64>,
    #[serde(default)]
    #[schemars(range(max = 1.0), extend("exclusiveMinimum" = 0))]
    pub top_p: Option<f64>,
    #[serde(default)]
    pub seed: Option<i64>,
    #[serde(default)]
    #[schemars(range(min = -2.0, max = 2.0))]
    pub frequency_penalty: Option<f64>,
    #[serde(default)]
    #[schemars(range(min = -2.0, max = 2.0))]
    pub presence_penalty: Option<f64>,
    #[serde(default)]
    pub logit_bias: Option<BTreeMap<String, f64>>,
    #[serde(default)]
    #[schemars(range(min = -1))]
    pub top_k: Option<i64>,
    #[serde(default)]
    #[schemars(range(min = 0.0, max = 1.0))]
    pub min_p: Option<f64>,
    #[serde(default)]
    #[schemars(range(max = 2.0), extend("exclusiveMinimum" = 0))]
    pub repetition_penalty: Option<f64>,
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged, expecting = "expected a string, an array of strings, or tokens")]
pub enum Prompt {
    One(String),
    Many(#[schemars(length(max = 16))] Vec<String>),
    Tokens(Vec<u32>),
    ManyTokens(Vec<Vec<u32>>),
}

/// A whole answer, or a piece of a streamed one: both have the same shape.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Completion {
    pub id: String,
    pub object: String,
    /// Unix time in seconds.
    pub created: i64,
    pub model: String,
    pub choices: Vec<CompletionChoice>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usage: Option<Usage>,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct CompletionChoice {
    pub text: String,
    pub index: u32,
    #[serde(default)]
    pub logprobs: Option<CompletionLogprobs>,
    #[serde(default)]
    pub finish_reason: Option<String>,
}

/// Four lists of one length, one entry a token.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct CompletionLogprobs {
    pub tokens: Vec<String>,
    pub token_logprobs: Vec<f32>,
    /// The likeliest tokens in its place, by their text.
    pub top_logprobs: Vec<BTreeMap<String, f32>>,
    /// Characters before it in the choice's text.
    pub text_offset: Vec<usize>,
}

impl CompletionRequest {
    /// # Errors
    /// The first field that is missing or of a wrong type.
    pub fn from_body(body: &Map<String, Value>) -> Result<Self, FieldError> {
        crate::error::read_fields(body)
    }
}

impl Completion {
    pub const OBJECT: &str = "text_completion";

    #[must_use]
    pub fn new(
        id: &str,
        created: i64,
        model: &str,
        choices: Vec<CompletionChoice>,
        usage: Option<Usage>,
    ) -> Self {
        let (id, object, model) = (id.to_owned(), Self::OBJECT.to_owned(), model.to_owned());
        Self { id, object, created, model, choices, usage }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(body: Value) -> Result<CompletionRequest, FieldError> {
        let Value::Object(map) = body else { panic!("not an object") };
        CompletionRequest::from_body(&map)
    }

    #[test]
    fn a_prompt_is_text_or_tokens_one_or_many() {
        let prompt = |prompt: Value| read(json!({"model": "m", "prompt": prompt})).unwrap().prompt;
        assert_eq!(prompt(json!("a")), Some(Prompt::One("a".into())));
        assert_eq!(prompt(json!(["a", "b"])), Some(Prompt::Many(vec!["a".into(), "b".into()])));
        assert_eq!(prompt(json!([1, 2])), Some(Prompt::Tokens(vec![1, 2])));
        assert_eq!(prompt(json!([[1], [2]])), Some(Prompt::ManyTokens(vec![vec![1], vec![2]])));
        assert_eq!(read(json!({"model": "m", "prompt": {}})).unwrap_err().param.as_deref(), Some("prompt"));
        assert_eq!(read(json!({"model": "m", "echo": 1})).unwrap_err().param.as_deref(), Some("echo"));
    }

    #[test]
    fn an_answer_has_openais_shape() {
        let logprobs = CompletionLogprobs {
            tokens: vec![" b".into()],
            token_logprobs: vec![-0.5],
            top_logprobs: vec![BTreeMap::from([(" b".into(), -0.5)])],
            text_offset: vec![0],
        };
        let choice = CompletionChoice {
            text: " b".into(),
            logprobs: Some(logprobs),
            finish_reason: Some("length".into()),
            ..CompletionChoice::default()
        };
        let answer = Completion::new("cmpl-1", 7, "m", vec![choice], Some(Usage::new(3, 1)));
        insta::assert_snapshot!(serde_json::to_string(&answer).unwrap(), @r#"{"id":"cmpl-1","object":"text_completion","created":7,"model":"m","choices":[{"text":" b","index":0,"logprobs":{"tokens":[" b"],"token_logprobs":[-0.5],"top_logprobs":[{" b":-0.5}],"text_offset":[0]},"finish_reason":"length"}],"usage":{"prompt_tokens":3,"completion_tokens":1,"total_tokens":4}}"#);
    }
}
