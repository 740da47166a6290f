use minijinja::{
    Environment, Error, ErrorKind, UndefinedBehavior, context,
    value::{Kwargs, Value},
};
use reprise_tier::{Message, Role};
use serde::Serialize as _;
use serde_json::{Map, json};

use super::{Vocabulary, instruct::arguments, json::python_json, tool_calls};
use crate::{
    EngineError,
    gguf::{Gguf, required},
};

const NAME: &str = "chat";

/// A model's own chat template, rendered as Hugging Face's transformers does.
///
/// Both SmolLM2's and Qwen2.5's templates put a system prompt of their own before a conversation that has none.
#[derive(Debug)]
pub struct ChatTemplate {
    environment: Environment<'static>,
    bos: String,
    eos: String,
    takes_tools: bool,
}

impl ChatTemplate {
    /// Compiles `tokenizer.chat_template`.
    ///
    /// # Errors
    /// If the file has none (a base model), or it is not valid.
    pub fn from_gguf(gguf: &Gguf, vocabulary: &Vocabulary) -> Result<Self, EngineError> {
        let key = "tokenizer.chat_template";
        let source = required(gguf.string(key), key)?;
        let text = |token: Option<(&str, u32)>| token.map_or_else(String::new, |(text, _)| text.to_owned());
        Self::new(source.to_owned(), text(vocabulary.bos()), text(vocabulary.eos()))
    }

    pub(super) fn new(source: String, bos: String, eos: String) -> Result<Self, EngineError> {
        let mut environment = Environment::new();
        environment.set_trim_blocks(true);
        environment.set_lstrip_blocks(true);
        environment.set_undefined_behavior(UndefinedBehavior::Lenient);
        environment.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
        environment.add_function("raise_exception", |message: String| -> Result<Value, Error> {
            Err(Error::new(ErrorKind::InvalidOperation, message))
        });
        environment.add_function("strftime_now", strftime_now);
        environment.add_filter("tojson", tojson);
        environment.add_template_owned(NAME, source)?;
        let mut template = Self { environment, bos, eos, takes_tools: false };
        template.takes_tools = template.shows_tools();
        Ok(template)
    }

    /// True if it tells the model of functions, and of calls in the form that `text::tool_calls` reads.
    #[must_use]
    pub fn takes_tools(&self) -> bool {
        self.takes_tools
    }

    fn shows_tools(&self) -> bool {
        const PROBE: &str = "probe_of_the_template";
        let tool = json!({"type": "function", "function": {"name": PROBE, "parameters": {"type": "object"}}});
        let rendered = self.render_with(&[Message::new(Role::User, "a")], &[tool], true);
        rendered.is_ok_and(|text| text.contains(PROBE) && text.contains(tool_calls::OPEN))
    }

    /// The conversation as text, ending where the assistant's answer begins if `open` is true.
    ///
    /// # Errors
    /// If the template refuses the conversation.
    pub fn render(&self, messages: &[Message], open: bool) -> Result<String, EngineError> {
        self.render_with(messages, &[], open)
    }

    /// The same, with functions in OpenAI's form that may be called.
    pub(crate) fn render_with(
        &self,
        messages: &[Message],
        tools: &[serde_json::Value],
        open: bool,
    ) -> Result<String, EngineError> {
        let messages: Vec<Value> = messages.iter().map(turn).collect();
        let tools = if tools.is_empty() { Value::from(()) } else { Value::from_serialize(tools) };
        let template = self.environment.get_template(NAME)?;
        Ok(template.render(context! {
            messages => messages,
            tools => tools,
            add_generation_prompt => open,
            bos_token => self.bos,
            eos_token => self.eos,
        })?)
    }
}

/// What is not there is left out: templates ask whether it is defined.
fn turn(message: &Message) -> Value {
    let mut turn = Map::new();
    turn.insert("role".to_owned(), json!(message.role.as_str()));
    turn.insert("content".to_owned(), json!(message.content));
    if !message.tool_calls.is_empty() {
        let call = |call: &reprise_tier::ToolCall| {
            let function = json!({"name": call.name, "arguments": arguments(&call.arguments)});
            json!({"id": call.id, "type": "function", "function": function})
        };
        turn.insert("tool_calls".to_owned(), message.tool_calls.iter().map(call).collect());
    }
    if let Some(id) = &message.tool_call_id {
        turn.insert("tool_call_id".to_owned(), json!(id));
    }
    Value::from_serialize(&turn)
}

/// As transformers has it: Python's `json.dumps`, where minijinja's own escapes for HTML.
#[expect(clippy::needless_pass_by_value, reason = "minijinja hands filters owned arguments")]
fn tojson(value: Value, options: Kwargs) -> Result<String, Error> {
    let text = match options.get::<Option<usize>>("indent")? {
        None => python_json(&value),
        Some(width) => {
            let (mut text, indent) = (Vec::new(), " ".repeat(width));
            let formatter = serde_json::ser::PrettyFormatter::with_indent(indent.as_bytes());
            value
                .serialize(&mut serde_json::Serializer::with_formatter(&mut text, formatter))
                .map(|()| String::from_utf8_lossy(&text).into_owned())
        }
    };
    text.map_err(|error| Error::new(ErrorKind::BadSerialization, error.to_string()))
}

/// Today's date in UTC, in the template's format.
#[expect(clippy::needless_pass_by_value, reason = "minijinja hands functions owned arguments")]
fn strftime_now(format: String) -> Result<String, Error> {
    let now = jiff::Timestamp::now().to_zoned(jiff::tz::TimeZone::UTC);
    jiff::fmt::strtime::format(&format, &now)
        .map_err(|error| Error::new(ErrorKind::InvalidOperation, error.to_string()))
}

#[cfg(test)]
mod tests {
    use reprise_tier::Role;

    use super::*;

    fn template(source: &str) -> ChatTemplate {
        ChatTemplate::new(source.into(), "<s>".into(), "</s>".into()).expect("valid")
    }

    #[test]
    fn python_methods_and_block_trimming_work() {
        let template = template(
            "{{ bos_token }}{% for m in messages %}\n  {% if m['content'].strip().startswith('a') %}\n\
             {{ m.content.strip() }}{{ eos_token }}\n{% endif %}\n{% endfor %}{% if add_generation_prompt %}>{% endif %}",
        );
        let messages = [Message::new(Role::User, " ab "), Message::new(Role::Assistant, "no")];
        assert_eq!(template.render(&messages, true).expect("renders"), "<s>ab</s>\n>");
        assert_eq!(template.render(&messages[1..], false).expect("renders"), "<s>");
    }

    #[test]
    fn json_is_pythons_and_keeps_its_order() {
        let template = template("{% for tool in tools %}{{ tool | tojson }}{% endfor %}");
        let tool = json!({"z": "<a & b's>", "a": [1, {"y": null, "b": true}]});
        let text = template.render_with(&[], &[tool], true).expect("renders");
        assert_eq!(text, r#"{"z": "<a & b's>", "a": [1, {"y": null, "b": true}]}"#);
    }

    #[test]
    fn a_template_takes_tools_if_it_tells_of_their_calls() {
        let told = "{% if tools %}{% for t in tools %}{{ t.function.name }}{% endfor %}";
        assert!(template(&format!("{told} <tool_call>{{% endif %}}")).takes_tools());
        assert!(!template(&format!("{told} [TOOL_CALLS]{{% endif %}}")).takes_tools());
        assert!(!template("{{ messages[0].content }}<tool_call>").takes_tools());
    }

    #[test]
    fn a_template_may_refuse() {
        let template = template("{{ raise_exception('no ' + messages[0].role + ' here') }}");
        let error = template.render(&[Message::new(Role::Tool, "")], true).expect_err("refused");
        assert!(error.to_string().contains("no tool here"), "{error}");
    }
}
