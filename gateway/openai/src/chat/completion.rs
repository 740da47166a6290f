use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::Usage;

/// A whole answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
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

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Choice {
    pub index: u32,
    pub message: AnswerMessage,
    #[serde(default)]
    pub logprobs: Option<Value>,
    #[serde(default)]
    pub finish_reason: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AnswerMessage {
    pub role: String,
    #[serde(default)]
    pub content: Option<String>,
    #[serde(default)]
    pub refusal: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tool_calls: Option<Value>,
}

fn object() -> String {
    ChatCompletion::OBJECT.to_owned()
}

impl ChatCompletion {
    pub const OBJECT: &str = "chat.completion";

    /// One choice of the assistant.
    #[must_use]
    pub fn answer(
        id: String,
        created: i64,
        model: String,
        text: String,
        finish_reason: &str,
        usage: Usage,
    ) -> Self {
        let message =
            AnswerMessage { role: "assistant".into(), content: Some(text), refusal: None, tool_calls: None };
        let choice = Choice { index: 0, message, logprobs: None, finish_reason: Some(finish_reason.into()) };
        Self {
            id,
            object: object(),
            created,
            model,
            choices: vec![choice],
            usage: Some(usage),
            system_fingerprint: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_has_openais_shape() {
        let usage = Usage::new(3, 2);
        let answer = ChatCompletion::answer("chatcmpl-1".into(), 7, "m".into(), "hi".into(), "stop", usage);
        insta::assert_snapshot!(serde_json::to_string(&answer).unwrap(), @r#"{"id":"chatcmpl-1","object":"chat.completion","created":7,"model":"m","choices":[{"index":0,"message":{"role":"assistant","content":"hi","refusal":null},"logprobs":null,"finish_reason":"stop"}],"usage":{"prompt_tokens":3,"completion_tokens":2,"total_tokens":5}}"#);
    }
}
