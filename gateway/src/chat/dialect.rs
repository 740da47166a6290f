//! How an endpoint tells an answer. The stages are the same for all; what they lead to is told as chat completions, as
//! completions or as responses, in one body or as events.

use std::fmt::Debug;

use bytes::Bytes;
use reprise_openai::Usage;
use reprise_tier::{TokenLogprob, ToolCallPiece, ToolCalls};

use crate::error::ApiError;
use crate::id;

/// What stands in every answer and in every event of one.
#[derive(Debug, Clone)]
pub struct Head {
    pub id: String,
    /// Unix time in seconds.
    pub created: i64,
    /// The id of the model that answered.
    pub model: String,
}

/// A choice that has ended.
#[derive(Debug, Clone, Default)]
pub struct Written {
    pub text: String,
    pub logprobs: Vec<TokenLogprob>,
    pub calls: ToolCalls,
    /// In OpenAI's terms.
    pub reason: &'static str,
}

pub trait Dialect: Debug + Send + Sync {
    /// What ids of answers begin with.
    fn prefix(&self) -> &'static str;

    /// The answer as a body of JSON.
    ///
    /// # Errors
    /// Only where a value's own `Serialize` fails.
    fn whole(&self, head: Head, choices: Vec<Written>, usage: Usage) -> Result<Bytes, serde_json::Error>;

    /// The answer as it comes.
    fn events(&self, head: Head, choices: u32) -> Box<dyn Events>;

    fn head(&self, created: i64, model: &str) -> Head {
        Head { id: format!("{}{}", self.prefix(), id::v7().simple()), created, model: model.to_owned() }
    }
}

/// Writes the server-sent events of one answer.
pub trait Events: Debug + Send {
    /// More of a choice's text.
    fn piece(&mut self, choice: u32, text: String, logprobs: Vec<TokenLogprob>);

    /// More of a choice's tool call with this index.
    fn tool_call(&mut self, choice: u32, index: usize, piece: ToolCallPiece);

    /// A choice has ended.
    fn end(&mut self, choice: u32, reason: &'static str);

    /// All have.
    fn done(&mut self, usage: Usage);

    /// The stream ends here and is not whole.
    fn error(&mut self, error: ApiError);

    /// The next event that is written and not yet taken.
    fn take(&mut self) -> Option<Bytes>;
}
