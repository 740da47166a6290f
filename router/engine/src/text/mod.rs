//! Text to tokens and back: the vocabulary, the chat template, and what streams out of a generation.

mod bytes;
mod pretokenizer;
mod prompt;
mod stop;
mod template;
mod utf8;
mod vocabulary;

pub(crate) use prompt::PromptBuilder;
pub(crate) use stop::{Matched, StopMatcher};
pub use template::ChatTemplate;
pub(crate) use utf8::Utf8Stream;
pub use vocabulary::Vocabulary;
