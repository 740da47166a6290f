//! One event of an upstream's stream, read as tolerantly as can be: what is not needed is not looked at, what is null
//! counts as absent. Stricter types are `reprise_openai::chat`, for what this project itself sends.

use reprise_openai::Usage;
use serde::Deserialize;
use serde_json::Value;

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Chunk {
    pub choices: Option<Vec<Choice>>,
    pub usage: Option<Usage>,
    /// Some servers report a failure in the stream, after the 200.
    pub error: Option<Value>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Choice {
    pub index: Option<u32>,
    pub delta: Option<Delta>,
    pub finish_reason: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Delta {
    pub content: Option<String>,
    pub tool_calls: Option<Vec<Value>>,
}
