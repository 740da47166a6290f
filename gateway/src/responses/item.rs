//! Output items.

use serde_json::{Value, json};

#[must_use]
pub fn id(prefix: &str) -> String {
    format!("{prefix}{}", crate::id::v7().simple())
}

/// `text`: none while it is still to come.
#[must_use]
pub fn message(id: &str, status: &str, part: Option<Value>) -> Value {
    let content: Vec<Value> = part.into_iter().collect();
    json!({"id": id, "type": "message", "status": status, "role": "assistant", "content": content})
}

#[must_use]
pub fn text_part(text: &str, logprobs: &Value) -> Value {
    json!({"type": "output_text", "text": text, "annotations": [], "logprobs": logprobs})
}

#[must_use]
pub fn function_call(id: &str, status: &str, call_id: &str, name: &str, arguments: &str) -> Value {
    json!({"id": id, "type": "function_call", "status": status, "call_id": call_id, "name": name, "arguments": arguments})
}
