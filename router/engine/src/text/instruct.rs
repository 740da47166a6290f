//! What the model is told of the form of its answer, where its template has no words for it.
//!
//! A grammar alone makes an answer valid, not sensible: a model that does not know the schema has its words cut to shape. So
//! the schema stands in the system message, as it does for OpenAI's own models. Functions are told in the model's own
//! template where that knows them, and else in the words of Hermes and Qwen, which most open models have met.

use reprise_tier::{Function, JsonForm, Message, Role, Tools};
use serde_json::{Value, json};

use super::{
    json::python_json,
    tool_calls::{ARGUMENTS, CLOSE, NAME, OPEN},
};

/// Adds what the answer has to be.
pub(super) fn tell_form(messages: &mut Vec<Message>, form: &JsonForm) -> serde_json::Result<()> {
    let words = match form {
        JsonForm::Object => "Answer with a JSON object.".to_owned(),
        JsonForm::Schema(schema) => {
            format!("Answer with JSON that conforms to this JSON Schema:\n{}", python_json(schema.as_ref())?)
        }
    };
    tell(messages, &words);
    Ok(())
}

/// For a template that knows no functions: describes them, and writes earlier calls and their results as plain turns.
pub(super) fn tell_tools(messages: &mut Vec<Message>, tools: Option<&Tools>) -> serde_json::Result<()> {
    *messages = plain(std::mem::take(messages))?;
    let Some(tools) = tools else { return Ok(()) };
    let mut words = "You can call functions to help with the request. They are described within <tools></tools>:\n<tools>"
        .to_owned();
    for function in &tools.functions {
        words.push('\n');
        words.push_str(&python_json(&definition(function))?);
    }
    words.push_str(
        "\n</tools>\nTo call a function, write a JSON object with its name and its arguments within ",
    );
    words.push_str("<tool_call></tool_call>:\n");
    words.push_str(&format!("{OPEN}{NAME}<function-name>{ARGUMENTS}<arguments-object>{CLOSE}"));
    tell(messages, &words);
    Ok(())
}

/// As OpenAI's clients send it, and as templates expect it.
pub(super) fn definition(function: &Function) -> Value {
    let mut described = json!({"name": function.name});
    if let Some(description) = &function.description {
        described["description"] = json!(description);
    }
    described["parameters"] = Value::clone(&function.parameters);
    json!({"type": "function", "function": described})
}

/// Arguments as the JSON that they should be, or as the text that they are.
pub(super) fn arguments(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|_| json!(text))
}

fn tell(messages: &mut Vec<Message>, words: &str) {
    match messages.first_mut().filter(|message| message.role == Role::System) {
        Some(system) => {
            if !system.content.is_empty() {
                system.content.push_str("\n\n");
            }
            system.content.push_str(words);
        }
        None => messages.insert(0, Message::new(Role::System, words)),
    }
}

fn plain(messages: Vec<Message>) -> serde_json::Result<Vec<Message>> {
    let mut plain: Vec<Message> = Vec::with_capacity(messages.len());
    let mut results = false;
    for mut message in messages {
        if message.role == Role::Tool {
            let words = format!("<tool_response>\n{}\n</tool_response>", message.content);
            match plain.last_mut().filter(|_| results) {
                Some(before) => {
                    before.content.push('\n');
                    before.content.push_str(&words);
                }
                None => plain.push(Message::new(Role::User, words)),
            }
            results = true;
            continue;
        }
        results = false;
        for call in std::mem::take(&mut message.tool_calls) {
            if !message.content.is_empty() {
                message.content.push('\n');
            }
            let arguments = python_json(&arguments(&call.arguments))?;
            message.content.push_str(&format!("{OPEN}{NAME}{}{ARGUMENTS}{arguments}{CLOSE}", call.name));
        }
        plain.push(message);
    }
    Ok(plain)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use reprise_tier::{ToolCall, ToolChoice};

    use super::*;

    #[test]
    fn a_form_joins_the_system_message_or_makes_one() {
        let mut messages = vec![Message::new(Role::System, "Be brief."), Message::new(Role::User, "hi")];
        tell_form(&mut messages, &JsonForm::Object).expect("told");
        assert_eq!(messages[0].content, "Be brief.\n\nAnswer with a JSON object.");
        let mut messages = vec![Message::new(Role::User, "hi")];
        tell_form(&mut messages, &JsonForm::Schema(Arc::new(json!({"type": "string"})))).expect("told");
        assert_eq!((messages.len(), messages[0].role), (2, Role::System));
        assert!(messages[0].content.ends_with(r#"{"type": "string"}"#));
    }

    #[test]
    fn calls_and_results_become_plain_turns() {
        let call = |id: &str| ToolCall { id: id.into(), name: "f".into(), arguments: "{\"a\":1}".into() };
        let mut assistant = Message::new(Role::Assistant, "");
        assistant.tool_calls = vec![call("1"), call("2")];
        let mut messages = vec![
            Message::new(Role::User, "q"),
            assistant,
            Message::new(Role::Tool, "x"),
            Message::new(Role::Tool, "y"),
        ];
        let tools = Tools {
            functions: vec![Function {
                name: "f".into(),
                description: None,
                parameters: Arc::new(json!({"type": "object"})),
                strict: false,
            }],
            choice: ToolChoice::Auto,
            parallel: true,
        };
        tell_tools(&mut messages, Some(&tools)).expect("told");
        let roles: Vec<Role> = messages.iter().map(|message| message.role).collect();
        assert_eq!(roles, [Role::System, Role::User, Role::Assistant, Role::User]);
        assert!(
            messages[0].content.contains(r#"{"type": "function", "function": {"name": "f", "parameters""#)
        );
        let one = "<tool_call>\n{\"name\": \"f\", \"arguments\": {\"a\": 1}}\n</tool_call>";
        assert_eq!(messages[2].content, format!("{one}\n{one}"));
        assert_eq!(
            messages[3].content,
            "<tool_response>\nx\n</tool_response>\n<tool_response>\ny\n</tool_response>"
        );
    }
}
