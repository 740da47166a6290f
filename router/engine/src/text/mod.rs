//! Text to tokens and back: the vocabulary, the chat template, and what streams out of a generation.

mod answer;
mod bytes;
mod calls;
mod instruct;
mod json;
mod pretokenizer;
mod prompt;
mod stop;
mod template;
pub(crate) mod tool_calls;
mod utf8;
mod vocabulary;
pub(crate) mod written_call;

pub(crate) use answer::{AnswerBuilder, Piece};
pub(crate) use calls::Calls;
pub(crate) use prompt::{Conversation, PromptBuilder};
pub use template::ChatTemplate;
pub use vocabulary::Vocabulary;
