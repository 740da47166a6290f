//! One event of an upstream's stream, read as tolerantly as can be: what is not needed is not looked at, what is null
//! counts as absent. Stricter types are `reprise_openai::chat`, for what this project itself sends.

use reprise_openai::Usage;
use reprise_tier::{LikelyToken, TokenLogprob};
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Chunk<'a> {
    #[serde(borrow)]
    pub choices: Option<Vec<Choice<'a>>>,
    pub usage: Option<Usage>,
    /// Some servers report a failure in the stream, after the 200.
    pub error: Option<Value>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Choice<'a> {
    pub index: Option<u32>,
    #[serde(borrow)]
    pub delta: Option<Delta<'a>>,
    /// Read by [`logprobs`]: some servers send something else under this name.
    pub logprobs: Option<Value>,
    pub finish_reason: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Delta<'a> {
    /// As it stands there: where in the event it stands is of use too.
    #[serde(borrow)]
    pub content: Option<&'a RawValue>,
    pub tool_calls: Option<Vec<Value>>,
}

/// The log probabilities of a choice; those that are not in OpenAI's shape are left out.
pub fn logprobs(sent: &Value) -> Vec<TokenLogprob> {
    let entries =
        |value: &Value, name: &str| value.get(name).and_then(Value::as_array).cloned().unwrap_or_default();
    let told = entries(sent, "content").into_iter().filter_map(|entry| {
        let top = entries(&entry, "top_logprobs").iter().filter_map(likely).collect();
        Some(TokenLogprob { chosen: likely(&entry)?, top })
    });
    told.collect()
}

fn likely(entry: &Value) -> Option<LikelyToken> {
    let bytes = entry.get("bytes").and_then(Value::as_array).map(|bytes| {
        let bytes = bytes.iter().map(|byte| byte.as_u64().and_then(|byte| u8::try_from(byte).ok()));
        bytes.collect::<Option<Vec<u8>>>()
    });
    Some(LikelyToken {
        text: entry.get("token")?.as_str()?.to_owned(),
        bytes: bytes.flatten(),
        logprob: (entry.get("logprob")?.as_f64()? as f32).max(LikelyToken::LEAST),
    })
}
