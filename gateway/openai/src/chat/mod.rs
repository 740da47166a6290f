//! `POST /v1/chat/completions`.

mod chunk;
mod completion;
mod message;
mod request;

pub use chunk::{ChatCompletionChunk, ChunkChoice, Delta};
pub use completion::{AnswerMessage, ChatCompletion, Choice};
pub use message::{ChatMessage, Content, Part, UnsupportedPart};
pub use request::{ChatRequest, Stop, StreamOptions};
