//! Items of the Responses API as turns of a chat.

use serde_json::{Value, json};

use super::item;
use crate::error::ApiError;

/// The input as items, each with an id.
///
/// # Errors
/// 400 that names the item.
pub fn items(input: Option<&Value>) -> Result<Vec<Value>, ApiError> {
    let items = match input {
        Some(Value::String(text)) => vec![json!({"role": "user", "content": text})],
        Some(Value::Array(items)) if items.is_empty() => {
            return Err(ApiError::invalid("input", "'input' must hold at least one item."));
        }
        Some(Value::Array(items)) => items.clone(),
        None | Some(Value::Null) => return Err(ApiError::missing("input")),
        Some(_) => {
            return Err(ApiError::invalid(
                "input",
                "Invalid 'input': expected a string or an array of items.",
            ));
        }
    };
    items.into_iter().enumerate().map(|(index, item)| with_id(index, item)).collect()
}

fn with_id(index: usize, item: Value) -> Result<Value, ApiError> {
    let Value::Object(mut item) = item else {
        let field = format!("input[{index}]");
        return Err(ApiError::invalid(&field, format!("Invalid '{field}': expected an object.")));
    };
    if !item.contains_key("type") && item.contains_key("role") {
        item.insert("type".to_owned(), json!("message"));
    }
    let kind = item.get("type").and_then(Value::as_str).unwrap_or_default();
    let prefix = match kind {
        "message" => "msg_",
        "function_call" => "fc_",
        "function_call_output" => "fco_",
        _ => {
            let field = format!("input[{index}].type");
            let message = format!(
                "Unsupported '{field}': '{kind}' is not 'message', 'function_call' or 'function_call_output'."
            );
            return Err(ApiError::unsupported(field, message));
        }
    };
    if item.get("id").and_then(Value::as_str).is_none_or(str::is_empty) {
        item.insert("id".to_owned(), json!(item::id(prefix)));
    }
    Ok(Value::Object(item))
}

/// `field`: what a mistake in an item is told as, such as `input`.
///
/// # Errors
/// 400 that names the item.
pub fn messages(items: &[Value], field: &str) -> Result<Vec<Value>, ApiError> {
    let mut messages: Vec<Value> = Vec::with_capacity(items.len());
    for (index, item) in items.iter().enumerate() {
        let at = |name: &str| format!("{field}[{index}].{name}");
        let text = |name: &str| {
            let value = item.get(name).and_then(Value::as_str);
            value.map(str::to_owned).ok_or_else(|| ApiError::missing(&at(name)))
        };
        match item["type"].as_str() {
            Some("function_call") => {
                let function = json!({"name": text("name")?, "arguments": text("arguments")?});
                let call = json!({"id": text("call_id")?, "type": "function", "function": function});
                // Text and calls of one answer are items of their own, and one turn.
                match messages.last_mut().filter(|last| last["role"] == "assistant") {
                    Some(turn) => match turn.get_mut("tool_calls").and_then(Value::as_array_mut) {
                        Some(calls) => calls.push(call),
                        None => turn["tool_calls"] = json!([call]),
                    },
                    None => {
                        messages.push(json!({"role": "assistant", "content": null, "tool_calls": [call]}));
                    }
                }
            }
            Some("function_call_output") => {
                let content = content(item.get("output"), &at("output"))?;
                messages.push(json!({"role": "tool", "tool_call_id": text("call_id")?, "content": content}));
            }
            _ => {
                let content = content(item.get("content"), &at("content"))?;
                messages.push(json!({"role": text("role")?, "content": content}));
            }
        }
    }
    Ok(messages)
}

/// Text, or parts of a chat's kinds; what is no text keeps its kind, for a tier that may know it.
fn content(content: Option<&Value>, field: &str) -> Result<Value, ApiError> {
    match content {
        Some(Value::String(text)) => Ok(json!(text)),
        Some(Value::Array(parts)) => Ok(parts.iter().map(part).collect()),
        None | Some(Value::Null) => Err(ApiError::missing(field)),
        Some(_) => {
            let message = format!("Invalid '{field}': expected a string or an array of parts.");
            Err(ApiError::invalid(field, message))
        }
    }
}

fn part(part: &Value) -> Value {
    match part["type"].as_str() {
        Some("input_text" | "output_text" | "text") => json!({"type": "text", "text": part["text"]}),
        Some("input_image") => json!({"type": "image_url", "image_url": {"url": part["image_url"]}}),
        _ => part.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items_become_turns() {
        let input = json!([
            {"role": "user", "content": [{"type": "input_text", "text": "q"}]},
            {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "I look."}]},
            {"type": "function_call", "call_id": "c1", "name": "f", "arguments": "{}"},
            {"type": "function_call", "call_id": "c2", "name": "g", "arguments": "{}"},
            {"type": "function_call_output", "call_id": "c1", "output": "1"},
        ]);
        let items = items(Some(&input)).unwrap();
        assert!(items.iter().all(|item| item["id"].is_string() && item["type"].is_string()));
        let call = |id: &str, name: &str| json!({"id": id, "type": "function", "function": {"name": name, "arguments": "{}"}});
        assert_eq!(
            messages(&items, "input").unwrap(),
            [
                json!({"role": "user", "content": [{"type": "text", "text": "q"}]}),
                json!({"role": "assistant", "content": [{"type": "text", "text": "I look."}], "tool_calls": [call("c1", "f"), call("c2", "g")]}),
                json!({"role": "tool", "tool_call_id": "c1", "content": "1"}),
            ]
        );
    }

    #[test]
    fn what_is_wrong_is_named() {
        let param = |input: Value| {
            let error = items(Some(&input)).and_then(|items| messages(&items, "input")).expect_err("wrong");
            error.body.param.unwrap()
        };
        assert_eq!(param(json!(7)), "input");
        assert_eq!(param(json!([])), "input");
        assert_eq!(param(json!([7])), "input[0]");
        assert_eq!(param(json!([{"type": "web_search_call"}])), "input[0].type");
        assert_eq!(param(json!([{"role": "user"}])), "input[0].content");
        assert_eq!(
            param(json!([{"type": "function_call", "name": "f", "arguments": "{}"}])),
            "input[0].call_id"
        );
        assert_eq!(items(None).unwrap_err().body.param.as_deref(), Some("input"));
    }
}
