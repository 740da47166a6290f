use minijinja::{Environment, Error, ErrorKind, UndefinedBehavior, context, value::Value};
use reprise_tier::Message;

use super::Vocabulary;
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

    fn new(source: String, bos: String, eos: String) -> Result<Self, EngineError> {
        let mut environment = Environment::new();
        environment.set_trim_blocks(true);
        environment.set_lstrip_blocks(true);
        environment.set_undefined_behavior(UndefinedBehavior::Lenient);
        environment.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
        environment.add_function("raise_exception", |message: String| -> Result<Value, Error> {
            Err(Error::new(ErrorKind::InvalidOperation, message))
        });
        environment.add_function("strftime_now", strftime_now);
        environment.add_template_owned(NAME, source)?;
        Ok(Self { environment, bos, eos })
    }

    /// The conversation as text, ending where the assistant's answer begins if `open` is true.
    ///
    /// # Errors
    /// If the template refuses the conversation.
    pub fn render(&self, messages: &[Message], open: bool) -> Result<String, EngineError> {
        let messages: Vec<Value> =
            messages.iter().map(|m| context! { role => m.role.as_str(), content => m.content }).collect();
        let template = self.environment.get_template(NAME)?;
        Ok(template.render(context! {
            messages => messages,
            add_generation_prompt => open,
            bos_token => self.bos,
            eos_token => self.eos,
        })?)
    }
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
    fn a_template_may_refuse() {
        let template = template("{{ raise_exception('no ' + messages[0].role + ' here') }}");
        let error = template.render(&[Message::new(Role::Tool, "")], true).expect_err("refused");
        assert!(error.to_string().contains("no tool here"), "{error}");
    }
}
