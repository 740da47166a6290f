use std::borrow::Cow;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::CalledTool;

/// One turn of a conversation. The role is a string: whether it is known is for the reader to say.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ChatMessage {
    #[schemars(extend("enum" = ["system", "developer", "user", "assistant", "tool"]))]
    pub role: String,
    /// Null in an assistant's turn that only calls tools.
    #[serde(default)]
    pub content: Option<Content>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tool_calls: Option<Vec<CalledTool>>,
    /// The call that a tool's turn answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tool_call_id: Option<String>,
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

/// A message's content: plain text, or parts of which some are text.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged, expecting = "expected a string or an array of content parts")]
pub enum Content {
    Text(String),
    Parts(Vec<Part>),
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Part {
    #[serde(rename = "type")]
    pub kind: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

/// A part that is not text, at this index.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("content part {index} has the type '{kind}', but only text is supported")]
pub struct UnsupportedPart {
    pub index: usize,
    pub kind: String,
}

impl ChatMessage {
    #[must_use]
    pub fn new(role: impl Into<String>, content: impl Into<String>) -> Self {
        Self { role: role.into(), content: Some(Content::Text(content.into())), ..Self::default() }
    }
}

impl Content {
    /// All text, parts joined as they stand.
    ///
    /// # Errors
    /// The first part that is not text.
    pub fn text(&self) -> Result<Cow<'_, str>, UnsupportedPart> {
        let parts = match self {
            Self::Text(text) => return Ok(Cow::Borrowed(text)),
            Self::Parts(parts) => parts,
        };
        let mut joined = String::new();
        for (index, part) in parts.iter().enumerate() {
            match (part.kind.as_str(), &part.text) {
                ("text" | "input_text", Some(text)) => joined.push_str(text),
                _ => return Err(UnsupportedPart { index, kind: part.kind.clone() }),
            }
        }
        Ok(Cow::Owned(joined))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn text_parts_are_joined_and_others_named() {
        let read = |value: Value| serde_json::from_value::<Content>(value).unwrap();
        assert_eq!(read(json!("a")).text().unwrap(), "a");
        assert_eq!(
            read(json!([{"type": "text", "text": "a"}, {"type": "text", "text": "b"}])).text().unwrap(),
            "ab"
        );
        let image =
            read(json!([{"type": "text", "text": "a"}, {"type": "image_url", "image_url": {"url": "x"}}]));
        assert_eq!(image.text().unwrap_err(), UnsupportedPart { index: 1, kind: "image_url".into() });
        assert_eq!(serde_json::to_value(&image).unwrap()[1]["image_url"]["url"], "x");
    }
}
