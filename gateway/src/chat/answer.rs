//! What an answer is, wherever it came from.

use reprise_cache::StoredAnswer;
use reprise_openai::Usage;
use reprise_tier::{Finish, FinishReason};
use uuid::Uuid;

/// What stands in every answer and in every chunk of one.
#[derive(Debug, Clone)]
pub struct Head {
    pub id: String,
    /// Unix time in seconds.
    pub created: i64,
    /// The id of the model that answered.
    pub model: String,
}

impl Head {
    #[must_use]
    pub fn new(created: i64, model: impl Into<String>) -> Self {
        Self { id: format!("chatcmpl-{}", Uuid::now_v7().simple()), created, model: model.into() }
    }
}

#[must_use]
pub fn reason_text(reason: FinishReason) -> &'static str {
    match reason {
        FinishReason::Stop => "stop",
        FinishReason::Length => "length",
        FinishReason::ToolCalls => "tool_calls",
        FinishReason::ContentFilter => "content_filter",
    }
}

#[must_use]
pub fn usage_of(finish: &Finish) -> Usage {
    Usage::new(finish.usage.prompt_tokens, finish.usage.completion_tokens)
}

#[must_use]
pub fn stored_usage(stored: &StoredAnswer) -> Usage {
    Usage::new(stored.prompt_tokens, stored.completion_tokens)
}
