use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::FieldError;

/// As it was sent: types are checked, values are not.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ResponseRequest {
    pub model: String,
    /// What is asked: text, or items.
    #[serde(default)]
    #[schemars(with = "ResponseInput")]
    pub input: Option<Value>,
    #[serde(default)]
    pub instructions: Option<String>,
    /// The response that this one goes on from.
    #[serde(default)]
    pub previous_response_id: Option<String>,
    /// Whether the response is kept for 30 days; left out, it is.
    #[serde(default)]
    pub store: Option<bool>,
    #[serde(default)]
    pub stream: Option<bool>,
    #[serde(default)]
    #[schemars(range(min = 1))]
    pub max_output_tokens: Option<i64>,
    #[serde(default)]
    #[schemars(range(min = 0.0, max = 2.0))]
    pub temperature: Option<f64>,
    #[serde(default)]
    #[schemars(range(max = 1.0), extend("exclusiveMinimum" = 0))]
    pub top_p: Option<f64>,
    #[serde(default)]
    #[schemars(range(min = 0, max = 20))]
    pub top_logprobs: Option<i64>,
    /// `message.output_text.logprobs`: log probabilities of the text's tokens.
    #[serde(default)]
    pub include: Option<Vec<String>>,
    /// `format`: the form that the answer is to have.
    #[serde(default)]
    pub text: Option<Map<String, Value>>,
    #[serde(default)]
    pub tools: Option<Vec<ResponseTool>>,
    /// `none`, `auto`, `required`, or an object that names a tool.
    #[serde(default)]
    pub tool_choice: Option<Value>,
    #[serde(default)]
    pub parallel_tool_calls: Option<bool>,
    #[serde(default)]
    pub reasoning: Option<Map<String, Value>>,
    #[serde(default)]
    pub metadata: Option<Map<String, Value>>,
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

/// Text, or items.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum ResponseInput {
    Text(String),
    Items(#[schemars(length(min = 1))] Vec<InputItem>),
}

/// A message, a call of a function, or what came of it: `role` and `content`; `call_id`, `name` and `arguments`; `call_id`
/// and `output`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct InputItem {
    /// `message`, `function_call` or `function_call_output`; an item with a role is a message.
    #[serde(rename = "type", default)]
    pub kind: Option<String>,
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ResponseTool {
    /// `function`.
    #[serde(rename = "type")]
    pub kind: String,
    /// With `name`, `description`, `parameters` and `strict`.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

impl ResponseRequest {
    /// # Errors
    /// The first field that is missing or of a wrong type.
    pub fn from_body(body: &Map<String, Value>) -> Result<Self, FieldError> {
        crate::error::read_fields(body)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_wrong_type_is_named() {
        let read = |field: &str, value: Value| {
            let body = Map::from_iter([("model".to_owned(), json!("m")), (field.to_owned(), value)]);
            ResponseRequest::from_body(&body).map_err(|error| error.param.unwrap_or_default())
        };
        for (field, value) in [
            ("store", json!("yes")),
            ("instructions", json!(["x"])),
            ("previous_response_id", json!(7)),
            ("include", json!("all")),
            ("text", json!("json")),
        ] {
            assert_eq!(read(field, value).unwrap_err(), field);
        }
        assert_eq!(read("tools", json!([{}])).unwrap_err(), "tools[0].type");
        assert_eq!(read("from_the_future", json!(1)).unwrap().extra["from_the_future"], 1);
    }
}
