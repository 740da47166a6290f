//! Which of OpenAI's fields a local tier cannot honour.
//!
//! A field that would change the answer and is not honoured must be refused: an answer that ignores it looks right and
//! is not. Fields that do not shape the answer (`user`, `metadata`, `store`, `service_tier`, ...) and those that nobody
//! knows yet are borne.

use serde_json::{Map, Value};

/// The first field of the request that only a remote tier may know what to do with.
pub fn beyond_local(fields: &Map<String, Value>) -> Option<&str> {
    fields.iter().find(|(name, value)| changes_the_answer(name, value)).map(|(name, _)| name.as_str())
}

fn changes_the_answer(name: &str, value: &Value) -> bool {
    match name {
        "tools" | "functions" => !is_empty(value),
        "tool_choice" | "function_call" => {
            !matches!(value.as_str(), Some("none" | "auto")) && !value.is_null()
        }
        "response_format" => {
            !value.is_null() && value.get("type").and_then(Value::as_str).is_none_or(|kind| kind != "text")
        }
        "modalities" => {
            !value.is_null() && value.as_array().is_none_or(|all| all.iter().any(|one| one != "text"))
        }
        "audio" | "reasoning_effort" | "verbosity" | "web_search_options" => !value.is_null(),
        _ => false,
    }
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Array(items) => items.is_empty(),
        Value::Object(map) => map.is_empty(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_changes_the_answer_is_named() {
        for (name, value) in [
            ("tools", json!([{"type": "function"}])),
            ("tool_choice", json!({"type": "function"})),
            ("response_format", json!({"type": "json_object"})),
            ("modalities", json!(["text", "audio"])),
            ("reasoning_effort", json!("low")),
        ] {
            let fields = Map::from_iter([("user".to_owned(), json!("u")), (name.to_owned(), value)]);
            assert_eq!(beyond_local(&fields), Some(name));
        }
    }

    #[test]
    fn defaults_and_harmless_fields_are_borne() {
        let Value::Object(fields) = json!({
            "tools": [], "tool_choice": "auto", "response_format": {"type": "text"}, "modalities": ["text"],
            "user": "u", "metadata": {"a": "b"}, "store": true, "service_tier": "auto", "parallel_tool_calls": true,
            "from_the_future": {"deep": 1}, "audio": null,
        }) else {
            panic!("not an object")
        };
        assert_eq!(beyond_local(&fields), None);
    }
}
