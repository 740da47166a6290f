//! `messages`: the turns of a conversation, as a tier takes them.

use reprise_openai::chat::{CalledTool, ChatMessage, Content};
use reprise_tier::{Message, Role, ToolCall};

use crate::error::ApiError;

/// The turns; and the path of the first thing in them that no local tier can read.
///
/// # Errors
/// 400 that names the field.
pub fn turns(sent: &[ChatMessage]) -> Result<(Vec<Message>, Option<String>), ApiError> {
    if sent.is_empty() {
        return Err(ApiError::invalid("messages", "'messages' must hold at least one message."));
    }
    let mut rich = None;
    let mut turns = Vec::with_capacity(sent.len());
    for (index, message) in sent.iter().enumerate() {
        turns.push(turn(index, message, &mut rich)?);
    }
    Ok((turns, rich))
}

fn turn(index: usize, message: &ChatMessage, rich: &mut Option<String>) -> Result<Message, ApiError> {
    let at = |field: &str| format!("messages[{index}].{field}");
    let role = role(&message.role).ok_or_else(|| {
        let known = "'system', 'developer', 'user', 'assistant' and 'tool'";
        ApiError::invalid(at("role"), format!("Invalid role '{}': known are {known}.", message.role))
    })?;
    let calls = message.tool_calls.as_deref().unwrap_or_default();
    if !calls.is_empty() && role != Role::Assistant {
        let message = format!("Invalid '{}': only an assistant calls tools.", at("tool_calls"));
        return Err(ApiError::invalid(at("tool_calls"), message));
    }
    let content = match &message.content {
        Some(content) => content_text(content).unwrap_or_else(|| {
            rich.get_or_insert_with(|| at("content"));
            String::new()
        }),
        None if !calls.is_empty() => String::new(),
        None => return Err(ApiError::missing(&at("content"))),
    };
    let mut turn = Message::new(role, content);
    for (number, called) in calls.iter().enumerate() {
        match call(called) {
            Some(call) => turn.tool_calls.push(call),
            None => {
                rich.get_or_insert_with(|| at(&format!("tool_calls[{number}].type")));
            }
        }
    }
    if role == Role::Tool {
        let id = message.tool_call_id.clone().ok_or_else(|| ApiError::missing(&at("tool_call_id")))?;
        turn.tool_call_id = Some(id);
    }
    Ok(turn)
}

/// `None` if it is no function's.
fn call(called: &CalledTool) -> Option<ToolCall> {
    let function = called.function.as_ref().filter(|_| called.kind == "function")?;
    let (id, name) = (called.id.clone(), function.name.clone());
    Some(ToolCall { id, name, arguments: function.arguments.clone() })
}

fn content_text(content: &Content) -> Option<String> {
    content.text().ok().map(|text| text.into_owned())
}

fn role(name: &str) -> Option<Role> {
    match name {
        "system" | "developer" => Some(Role::System),
        "user" => Some(Role::User),
        "assistant" => Some(Role::Assistant),
        "tool" => Some(Role::Tool),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn read(messages: Value) -> Result<(Vec<Message>, Option<String>), ApiError> {
        turns(&serde_json::from_value::<Vec<ChatMessage>>(messages).unwrap())
    }

    #[test]
    fn calls_and_their_results_are_turns() {
        let call = json!({"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}});
        let (turns, rich) = read(json!([
            {"role": "user", "content": "q"}, {"role": "assistant", "content": null, "tool_calls": [call]},
            {"role": "tool", "tool_call_id": "c", "content": [{"type": "text", "text": "42"}]},
        ]))
        .unwrap();
        assert_eq!(rich, None);
        let called = ToolCall { id: "c".into(), name: "f".into(), arguments: "{}".into() };
        assert_eq!((turns[1].content.as_str(), &turns[1].tool_calls), ("", &vec![called]));
        assert_eq!((turns[2].content.as_str(), turns[2].tool_call_id.as_deref()), ("42", Some("c")));
    }

    #[test]
    fn what_only_a_remote_tier_may_read_is_named() {
        let (_, rich) = read(json!([
            {"role": "user", "content": [{"type": "image_url"}]},
            {"role": "assistant", "tool_calls": [{"id": "c", "type": "custom"}]},
        ]))
        .unwrap();
        assert_eq!(rich.as_deref(), Some("messages[0].content"));
        let (_, rich) =
            read(json!([{"role": "assistant", "tool_calls": [{"id": "c", "type": "custom"}]}])).unwrap();
        assert_eq!(rich.as_deref(), Some("messages[0].tool_calls[0].type"));
    }

    #[test]
    fn what_is_wrong_is_named() {
        let call = json!({"id": "c", "function": {"name": "f", "arguments": "{}"}});
        for (messages, param) in [
            (json!([]), "messages"),
            (json!([{"role": "robot", "content": "x"}]), "messages[0].role"),
            (json!([{"role": "user"}]), "messages[0].content"),
            (json!([{"role": "assistant", "content": null, "tool_calls": []}]), "messages[0].content"),
            (json!([{"role": "user", "content": "x", "tool_calls": [call]}]), "messages[0].tool_calls"),
            (json!([{"role": "tool", "content": "x"}]), "messages[0].tool_call_id"),
        ] {
            let error = read(messages).expect_err(param);
            assert_eq!((error.status.as_u16(), error.body.param.as_deref()), (400, Some(param)));
        }
    }
}
