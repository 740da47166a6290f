//! `tools`, `tool_choice` and `parallel_tool_calls`: what the model may call.

use std::collections::HashSet;
use std::sync::Arc;

use reprise_openai::chat::{ChatRequest, Tool, ToolChoice as Choice};
use reprise_tier::{Function, ToolChoice, Tools};
use serde_json::{Value, json};

use crate::error::ApiError;

const MOST_TOOLS: usize = 128;
const LONGEST_NAME: usize = 64;

/// The tools of a request; and the first field, if there is one, that only a remote tier may know what to do with.
///
/// # Errors
/// 400 that names the field.
pub fn tools(request: &ChatRequest) -> Result<(Option<Arc<Tools>>, Option<String>), ApiError> {
    let sent = request.tools.as_deref().unwrap_or_default();
    if sent.is_empty() {
        return match &request.tool_choice {
            None => Ok((None, None)),
            Some(Choice::Mode(mode)) if mode == "none" || mode == "auto" => Ok((None, None)),
            Some(_) => {
                Err(ApiError::invalid("tool_choice", "'tool_choice' is only allowed when 'tools' are given."))
            }
        };
    }
    if sent.len() > MOST_TOOLS {
        let message = format!("Invalid 'tools': {} tools, but at most {MOST_TOOLS} are allowed.", sent.len());
        return Err(ApiError::invalid("tools", message));
    }
    let (mut functions, mut names) = (Vec::with_capacity(sent.len()), HashSet::new());
    for (index, tool) in sent.iter().enumerate() {
        let Some(function) = function(index, tool)? else {
            return Ok((None, Some(format!("tools[{index}].type"))));
        };
        if !names.insert(function.name.clone()) {
            let message = format!("Invalid 'tools': two are named '{}'.", function.name);
            return Err(ApiError::invalid(format!("tools[{index}].function.name"), message));
        }
        functions.push(function);
    }
    let choice = match &request.tool_choice {
        None => ToolChoice::Auto,
        Some(Choice::Mode(mode)) => match mode.as_str() {
            "none" => return Ok((None, None)),
            "auto" => ToolChoice::Auto,
            "required" => ToolChoice::Required,
            other => {
                let message =
                    format!("Invalid 'tool_choice': '{other}' is not 'none', 'auto' or 'required'.");
                return Err(ApiError::invalid("tool_choice", message));
            }
        },
        Some(Choice::Tool(tool)) if tool.kind == "function" => {
            let name = tool.function.as_ref().ok_or_else(|| ApiError::missing("tool_choice.function"))?;
            if !names.contains(&name.name) {
                let message =
                    format!("Invalid 'tool_choice': there is no function '{}' in 'tools'.", name.name);
                return Err(ApiError::invalid("tool_choice", message));
            }
            ToolChoice::Named(name.name.clone())
        }
        Some(Choice::Tool(_)) => return Ok((None, Some("tool_choice".to_owned()))),
    };
    let parallel = request.parallel_tool_calls.unwrap_or(true);
    Ok((Some(Arc::new(Tools { functions, choice, parallel })), None))
}

/// `None` if it is something else than a function.
fn function(index: usize, tool: &Tool) -> Result<Option<Function>, ApiError> {
    if tool.kind != "function" {
        return Ok(None);
    }
    let field = format!("tools[{index}].function");
    let function = tool.function.as_ref().ok_or_else(|| ApiError::missing(&field))?;
    check_name(&format!("{field}.name"), &function.name)?;
    let parameters = match &function.parameters {
        Some(parameters) if !parameters.is_empty() => Value::Object(parameters.clone()),
        _ => json!({"type": "object", "properties": {}}),
    };
    Ok(Some(Function {
        name: function.name.clone(),
        description: function.description.clone(),
        parameters: Arc::new(parameters),
        strict: function.strict.unwrap_or(false),
    }))
}

/// # Errors
/// 400 that names the field.
pub fn check_name(field: &str, name: &str) -> Result<(), ApiError> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
    if (1..=LONGEST_NAME).contains(&name.len()) && name.bytes().all(plain) {
        return Ok(());
    }
    let message = format!(
        "Invalid '{field}': a name has 1 to {LONGEST_NAME} characters, each an ASCII letter, a digit, '_' or '-'."
    );
    Err(ApiError::invalid(field, message))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[expect(clippy::needless_pass_by_value, reason = "callers write json! in place")]
    fn read(fields: Value) -> Result<(Option<Arc<Tools>>, Option<String>), ApiError> {
        let mut body = json!({"model": "m", "messages": []});
        body.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        tools(&ChatRequest::from_body(body.as_object().unwrap())?)
    }

    fn f(name: &str) -> Value {
        json!({"type": "function", "function": {"name": name}})
    }

    #[test]
    fn tools_and_choices_are_read() {
        let choice = |choice: Value| {
            let (tools, beyond) = read(json!({"tools": [f("f"), f("g")], "tool_choice": choice})).unwrap();
            (tools.map(|tools| tools.choice.clone()), beyond)
        };
        assert_eq!(choice(Value::Null), (Some(ToolChoice::Auto), None));
        assert_eq!(choice(json!("auto")), (Some(ToolChoice::Auto), None));
        assert_eq!(choice(json!("required")), (Some(ToolChoice::Required), None));
        assert_eq!(choice(json!("none")), (None, None));
        assert_eq!(choice(f("g")), (Some(ToolChoice::Named("g".into())), None));
        assert_eq!(choice(json!({"type": "allowed_tools"})), (None, Some("tool_choice".into())));
        let (tools, _) = read(json!({"tools": [f("f")], "parallel_tool_calls": false})).unwrap();
        let tools = tools.unwrap();
        assert!(!tools.parallel);
        assert_eq!(*tools.functions[0].parameters, json!({"type": "object", "properties": {}}));
        assert_eq!(read(json!({"tools": [], "tool_choice": "auto"})).unwrap(), (None, None));
        let custom = json!({"tools": [f("f"), {"type": "custom", "custom": {"name": "c"}}]});
        assert_eq!(read(custom).unwrap(), (None, Some("tools[1].type".into())));
    }

    #[test]
    fn what_is_wrong_is_named() {
        let many: Vec<Value> = (0..129).map(|index| f(&format!("f{index}"))).collect();
        for (fields, param) in [
            (json!({"tool_choice": "required"}), "tool_choice"),
            (json!({"tools": [f("f")], "tool_choice": "always"}), "tool_choice"),
            (json!({"tools": [f("f")], "tool_choice": f("g")}), "tool_choice"),
            (json!({"tools": [f("f")], "tool_choice": {"type": "function"}}), "tool_choice.function"),
            (json!({"tools": [f("f"), f("f")]}), "tools[1].function.name"),
            (json!({"tools": [f("a b")]}), "tools[0].function.name"),
            (json!({"tools": [f(&"x".repeat(65))]}), "tools[0].function.name"),
            (json!({"tools": [{"type": "function"}]}), "tools[0].function"),
            (json!({"tools": many}), "tools"),
        ] {
            let error = read(fields.clone()).expect_err(param);
            assert_eq!((error.status.as_u16(), error.body.param.as_deref()), (400, Some(param)), "{fields}");
        }
    }
}
