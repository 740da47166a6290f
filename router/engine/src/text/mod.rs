//! Text to tokens and back: the vocabulary, the chat template, and what streams out of a generation.

mod answer;
mod bytes;
mod pretokenizer;
mod prompt;
mod stop;
mod template;
mod utf8;
mod vocabulary;

pub(crate) use answer::{AnswerBuilder, Piece};
pub(crate) use prompt::PromptBuilder;
pub use template::ChatTemplate;
pub use vocabulary::Vocabulary;
