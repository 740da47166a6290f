//! `POST /v1/chat/completions`.

mod chunk;
mod completion;
mod logprobs;
mod message;
mod request;
mod tool;

pub use chunk::{ChatCompletionChunk, ChunkChoice, Delta};
pub use completion::{AnswerMessage, ChatCompletion, Choice};
pub use logprobs::{Logprobs, TokenLogprob, TopLogprob};
pub use message::{ChatMessage, Content, Part, UnsupportedPart};
pub use request::{ChatRequest, Stop, StreamOptions};
pub use tool::{
    CalledFunction, CalledTool, ChosenFunction, ChosenTool, NamedSchema, ResponseFormat, Tool, ToolChoice,
    ToolFunction,
};
