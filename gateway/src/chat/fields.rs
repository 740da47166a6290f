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
        "functions" => !is_empty(value),
        "function_call" => !matches!(value.as_str(), Some("none" | "auto")) && !value.is_null(),
        "modalities" => {
            !value.is_null() && value.as_array().is_none_or(|all| all.iter().any(|one| one != "text"))
        }
        // OpenAI's.
        "audio" | "reasoning_effort" | "verbosity" | "web_search_options" => !value.is_null(),
        // Other servers', which clients of theirs may send here: vLLM, llama.cpp, Ollama, TGI.
        "guided_json"
        | "guided_regex"
        | "guided_choice"
        | "guided_grammar"
        | "structured_outputs"
        | "grammar"
        | "json_schema"
        | "min_tokens"
        | "ignore_eos"
        | "stop_token_ids"
        | "bad_words"
        | "allowed_token_ids"
        | "length_penalty"
        | "use_beam_search"
        | "best_of"
        | "typical_p"
        | "mirostat"
        | "xtc_probability"
        | "dry_multiplier"
        | "chat_template"
        | "chat_template_kwargs"
        | "documents"
        | "continue_final_message"
        | "prompt_logprobs"
        | "truncate_prompt_tokens"
        | "format" => !is_off(value),
        _ => false,
    }
}

fn is_off(value: &Value) -> bool {
    is_empty(value) || *value == Value::Bool(false) || value.as_f64() == Some(0.0)
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
            ("functions", json!([{"name": "f"}])),
            ("guided_json", json!({"type": "object"})),
            ("ignore_eos", json!(true)),
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
            "functions": [], "function_call": "auto", "modalities": ["text"], "ignore_eos": false, "min_tokens": 0,
            "user": "u", "metadata": {"a": "b"}, "store": true, "service_tier": "auto",
            "from_the_future": {"deep": 1}, "audio": null,
        }) else {
            panic!("not an object")
        };
        assert_eq!(beyond_local(&fields), None);
    }
}
