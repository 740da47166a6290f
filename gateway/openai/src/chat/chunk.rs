use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::logprobs::{self, Logprobs};
use crate::Usage;

/// One piece of a streamed answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ChatCompletionChunk {
    pub id: String,
    #[serde(default = "object")]
    pub object: String,
    /// Unix time in seconds, the same in every chunk of an answer.
    pub created: i64,
    pub model: String,
    /// Empty in the chunk that carries the usage.
    #[serde(default)]
    pub choices: Vec<ChunkChoice>,
    /// Absent unless `include_usage` was asked for; then null in every chunk but the last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usage: Option<Option<Usage>>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ChunkChoice {
    pub index: u32,
    #[serde(default)]
    pub delta: Delta,
    #[serde(default, deserialize_with = "logprobs::tolerant")]
    pub logprobs: Option<Logprobs>,
    #[serde(default)]
    pub finish_reason: Option<String>,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Delta {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<Vec<serde_json::Map<String, Value>>>")]
    pub tool_calls: Option<Value>,
}

fn object() -> String {
    ChatCompletionChunk::OBJECT.to_owned()
}

impl ChatCompletionChunk {
    pub const OBJECT: &str = "chat.completion.chunk";

    /// A chunk with one choice.
    #[must_use]
    pub fn piece(id: &str, created: i64, model: &str, choice: ChunkChoice) -> Self {
        Self { choices: vec![choice], ..Self::empty(id, created, model) }
    }

    /// The chunk after the last: no choice, the usage.
    #[must_use]
    pub fn usage(id: &str, created: i64, model: &str, usage: Usage) -> Self {
        Self { usage: Some(Some(usage)), ..Self::empty(id, created, model) }
    }

    /// Says with a null that a later chunk will carry the usage.
    #[must_use]
    pub fn with_usage_to_come(mut self) -> Self {
        self.usage = Some(None);
        self
    }

    fn empty(id: &str, created: i64, model: &str) -> Self {
        Self {
            id: id.to_owned(),
            object: object(),
            created,
            model: model.to_owned(),
            choices: Vec::new(),
            usage: None,
        }
    }
}

impl ChunkChoice {
    #[must_use]
    pub fn new(index: u32, delta: Delta) -> Self {
        Self { index, delta, logprobs: None, finish_reason: None }
    }

    /// The last of its choice.
    #[must_use]
    pub fn end(index: u32, finish_reason: &str) -> Self {
        Self { finish_reason: Some(finish_reason.to_owned()), ..Self::new(index, Delta::default()) }
    }

    #[must_use]
    pub fn with_logprobs(mut self, logprobs: Option<Logprobs>) -> Self {
        self.logprobs = logprobs;
        self
    }
}

impl Delta {
    /// The first delta of an answer.
    #[must_use]
    pub fn role() -> Self {
        Self { role: Some("assistant".into()), content: Some(String::new()), tool_calls: None }
    }

    #[must_use]
    pub fn text(text: impl Into<String>) -> Self {
        Self { content: Some(text.into()), ..Self::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json(chunk: &ChatCompletionChunk) -> String {
        serde_json::to_string(chunk).unwrap()
    }

    #[test]
    fn chunks_have_openais_shape() {
        let piece = ChatCompletionChunk::piece("c", 7, "m", ChunkChoice::new(1, Delta::text("hi")));
        insta::assert_snapshot!(json(&piece), @r#"{"id":"c","object":"chat.completion.chunk","created":7,"model":"m","choices":[{"index":1,"delta":{"content":"hi"},"logprobs":null,"finish_reason":null}]}"#);
        let last = ChatCompletionChunk::piece("c", 7, "m", ChunkChoice::end(0, "stop")).with_usage_to_come();
        insta::assert_snapshot!(json(&last), @r#"{"id":"c","object":"chat.completion.chunk","created":7,"model":"m","choices":[{"index":0,"delta":{},"logprobs":null,"finish_reason":"stop"}],"usage":null}"#);
        let usage = ChatCompletionChunk::usage("c", 7, "m", Usage::new(3, 2));
        insta::assert_snapshot!(json(&usage), @r#"{"id":"c","object":"chat.completion.chunk","created":7,"model":"m","choices":[],"usage":{"prompt_tokens":3,"completion_tokens":2,"total_tokens":5}}"#);
    }
}
