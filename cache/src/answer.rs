use serde::{Deserialize, Serialize};

/// A whole answer, for the same request to get again: enough to be served as JSON or as a stream.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredAnswer {
    pub text: String,
    /// Always `stop` today: an answer that was cut is not stored.
    pub finish_reason: String,
    pub prompt_tokens: u32,
    pub completion_tokens: u32,
    pub tier: String,
    pub model: String,
    pub created_at_ms: i64,
}
