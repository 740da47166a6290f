use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::FieldError;

use super::{ChatMessage, ResponseFormat, Tool, ToolChoice};

/// A chat request as it was sent: types are checked, values are not.
///
/// Numbers are wider than their ranges, so that a value out of range gets an error that names the range.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ChatRequest {
    pub model: String,
    #[schemars(length(min = 1))]
    pub messages: Vec<ChatMessage>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stream: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stream_options: Option<StreamOptions>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0.0, max = 2.0))]
    pub temperature: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(max = 1.0), extend("exclusiveMinimum" = 0))]
    pub top_p: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seed: Option<i64>,
    /// The older name of `max_completion_tokens`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub max_tokens: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub max_completion_tokens: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stop: Option<Stop>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 8))]
    pub n: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = -2.0, max = 2.0))]
    pub frequency_penalty: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = -2.0, max = 2.0))]
    pub presence_penalty: Option<f64>,
    /// By token id, in decimal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub logit_bias: Option<BTreeMap<String, f64>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub logprobs: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 20))]
    pub top_logprobs: Option<i64>,
    /// Not OpenAI's, but vLLM's and others'; so are `min_p` and `repetition_penalty`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = -1))]
    pub top_k: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0.0, max = 1.0))]
    pub min_p: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(max = 2.0), extend("exclusiveMinimum" = 0))]
    pub repetition_penalty: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub response_format: Option<ResponseFormat>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 128))]
    pub tools: Option<Vec<Tool>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tool_choice: Option<ToolChoice>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parallel_tool_calls: Option<bool>,
    /// Every field that is not named above, in the order sent.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

/// One stop string or several.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Stop {
    One(String),
    Many(#[schemars(length(max = 4))] Vec<String>),
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct StreamOptions {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub include_usage: Option<bool>,
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

impl ChatRequest {
    /// # Errors
    /// The first field that is missing or of a wrong type, with its path: `messages[2].content`.
    pub fn from_body(body: &Map<String, Value>) -> Result<Self, FieldError> {
        crate::error::read_fields(body)
    }
}

impl Stop {
    #[must_use]
    pub fn into_vec(self) -> Vec<String> {
        match self {
            Self::One(stop) => vec![stop],
            Self::Many(stops) => stops,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(body: Value) -> Result<ChatRequest, FieldError> {
        let Value::Object(map) = body else { panic!("not an object") };
        ChatRequest::from_body(&map)
    }

    #[test]
    fn unknown_fields_are_kept_and_null_is_absent() {
        let request = read(json!({
            "model": "auto", "messages": [{"role": "user", "content": "hi", "cache_control": {"type": "x"}}],
            "temperature": null, "stop": null, "tools": [], "user": "u-1",
        }))
        .unwrap();
        assert_eq!(request.temperature, None);
        assert_eq!(request.extra.keys().collect::<Vec<_>>(), ["user"]);
        assert_eq!(request.tools, Some(Vec::new()));
        assert_eq!(request.messages[0].extra["cache_control"], json!({"type": "x"}));
    }

    #[test]
    fn stop_is_a_string_or_a_list() {
        let with =
            |stop: Value| read(json!({"model": "m", "messages": [], "stop": stop})).unwrap().stop.unwrap();
        assert_eq!(with(json!("a")).into_vec(), ["a"]);
        assert_eq!(with(json!(["a", "b"])).into_vec(), ["a", "b"]);
    }

    #[test]
    fn a_wrong_type_is_named_by_its_path() {
        let param = |body: Value| read(body).unwrap_err().param.unwrap_or_default();
        assert_eq!(param(json!({"model": "m", "messages": [], "temperature": "hot"})), "temperature");
        assert_eq!(param(json!({"model": "m", "messages": "hi"})), "messages");
        assert_eq!(
            param(json!({"model": "m", "messages": [{"role": "user", "content": 3}]})),
            "messages[0].content"
        );
        assert_eq!(param(json!({"model": "m", "messages": [{"content": "x"}]})), "messages[0].role");
        assert_eq!(param(json!({"messages": []})), "model");
        let with = |field: &str, value: Value| param(json!({"model": "m", "messages": [], field: value}));
        assert_eq!(with("tools", json!([{"type": "function", "function": {}}])), "tools[0].function.name");
        assert_eq!(with("tools", json!([{"function": {"name": "f"}}])), "tools[0].type");
        assert_eq!(
            with(
                "response_format",
                json!({"type": "json_schema", "json_schema": {"name": "a", "schema": 1}})
            ),
            "response_format.json_schema.schema"
        );
        assert_eq!(with("tool_choice", json!(3)), "tool_choice");
        assert_eq!(param(json!({"model": "m", "messages": [], "n": 1.5})), "n");
        assert_eq!(param(json!({"model": "m", "messages": [], "logit_bias": {"5": "much"}})), "logit_bias.5");
    }
}
