use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

/// `choices[].logprobs`, where `logprobs` was asked for.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Logprobs {
    /// Token by token; their bytes make the content.
    #[serde(default)]
    pub content: Option<Vec<TokenLogprob>>,
    /// Always null: nothing here refuses in a field of its own.
    #[serde(default)]
    pub refusal: Option<Vec<TokenLogprob>>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct TokenLogprob {
    pub token: String,
    /// Natural logarithm; -9999 for what is next to impossible.
    pub logprob: f32,
    /// UTF-8; a code point may be spread over several tokens. Null for a token that stands for no text.
    #[serde(default)]
    pub bytes: Option<Vec<u8>>,
    /// As many as `top_logprobs` asked for, most likely first.
    #[serde(default)]
    pub top_logprobs: Vec<TopLogprob>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct TopLogprob {
    pub token: String,
    pub logprob: f32,
    #[serde(default)]
    pub bytes: Option<Vec<u8>>,
}

impl Logprobs {
    #[must_use]
    pub fn content(tokens: Vec<TokenLogprob>) -> Self {
        Self { content: Some(tokens), refusal: None }
    }
}

/// Reads an answer for its text even where another server means something else by `logprobs`.
pub(super) fn tolerant<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Logprobs>, D::Error> {
    let value = Option::<Value>::deserialize(deserializer)?;
    Ok(value.and_then(|value| serde_json::from_value(value).ok()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chat::{ChunkChoice, Delta};

    #[test]
    fn they_have_openais_shape() {
        let top = TopLogprob { token: "<|im_end|>".into(), logprob: -9999.0, bytes: None };
        let token = TokenLogprob {
            token: "hé".into(),
            logprob: -0.317_253_05,
            bytes: Some("hé".into()),
            top_logprobs: vec![top],
        };
        let logprobs = Logprobs::content(vec![token]);
        insta::assert_snapshot!(serde_json::to_string(&logprobs).unwrap(), @r#"{"content":[{"token":"hé","logprob":-0.31725305,"bytes":[104,195,169],"top_logprobs":[{"token":"<|im_end|>","logprob":-9999.0,"bytes":null}]}],"refusal":null}"#);
    }

    #[test]
    fn other_shapes_are_none() {
        let read = |json: &str| serde_json::from_str::<ChunkChoice>(json).unwrap();
        assert_eq!(read(r#"{"index":0,"logprobs":{"content":7}}"#).logprobs, None);
        assert_eq!(read(r#"{"index":0,"logprobs":null}"#), ChunkChoice::new(0, Delta::default()));
        assert_eq!(read(r#"{"index":0}"#), ChunkChoice::new(0, Delta::default()));
        assert_eq!(
            read(r#"{"index":0,"logprobs":{"content":[]}}"#).logprobs,
            Some(Logprobs::content(Vec::new()))
        );
    }
}
