use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::logprobs::{self, Logprobs};
use crate::Usage;

/// A whole answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ChatCompletion {
    pub id: String,
    #[serde(default = "object")]
    pub object: String,
    /// Unix time in seconds.
    pub created: i64,
    pub model: String,
    pub choices: Vec<Choice>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usage: Option<Usage>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub system_fingerprint: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Choice {
    pub index: u32,
    pub message: AnswerMessage,
    #[serde(default, deserialize_with = "logprobs::tolerant")]
    pub logprobs: Option<Logprobs>,
    #[serde(default)]
    pub finish_reason: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct AnswerMessage {
    pub role: String,
    #[serde(default)]
    pub content: Option<String>,
    #[serde(default)]
    pub refusal: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<Vec<super::CalledTool>>")]
    pub tool_calls: Option<Value>,
}

fn object() -> String {
    ChatCompletion::OBJECT.to_owned()
}

impl ChatCompletion {
    pub const OBJECT: &str = "chat.completion";

    #[must_use]
    pub fn new(id: String, created: i64, model: String, choices: Vec<Choice>, usage: Usage) -> Self {
        let (object, usage, system_fingerprint) = (object(), Some(usage), None);
        Self { id, object, created, model, choices, usage, system_fingerprint }
    }
}

impl Choice {
    /// Text of the assistant.
    #[must_use]
    pub fn text(index: u32, text: String, finish_reason: &str) -> Self {
        let message =
            AnswerMessage { role: "assistant".into(), content: Some(text), refusal: None, tool_calls: None };
        Self { index, message, logprobs: None, finish_reason: Some(finish_reason.into()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_has_openais_shape() {
        let usage = Usage::new(3, 2);
        let choices = vec![Choice::text(0, "hi".into(), "stop")];
        let answer = ChatCompletion::new("chatcmpl-1".into(), 7, "m".into(), choices, usage);
        insta::assert_snapshot!(serde_json::to_string(&answer).unwrap(), @r#"{"id":"chatcmpl-1","object":"chat.completion","created":7,"model":"m","choices":[{"index":0,"message":{"role":"assistant","content":"hi","refusal":null},"logprobs":null,"finish_reason":"stop"}],"usage":{"prompt_tokens":3,"completion_tokens":2,"total_tokens":5}}"#);
    }
}
