use std::{sync::Arc, time::Instant};

use serde::{Deserialize, Serialize};

/// Who speaks in a turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    System,
    User,
    Assistant,
    Tool,
}

impl Role {
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::System => "system",
            Self::User => "user",
            Self::Assistant => "assistant",
            Self::Tool => "tool",
        }
    }
}

/// One turn, as text.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Message {
    pub role: Role,
    pub content: String,
}

impl Message {
    #[must_use]
    pub fn new(role: Role, content: impl Into<String>) -> Self {
        Self { role, content: content.into() }
    }
}

/// Who waits first when a tier is busy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Priority {
    /// Replay and shadow runs: only when no interactive request waits.
    Batch,
    #[default]
    Interactive,
}

/// How the next token is drawn. Values are validated by the gateway: temperature in [0, 2], top_p in (0, 1].
#[derive(Debug, Clone, PartialEq)]
pub struct Sampling {
    /// 0 is greedy.
    pub temperature: f32,
    pub top_p: f32,
    /// The same seed, prompt and model give the same tokens; `None` draws one.
    pub seed: Option<u64>,
}

impl Default for Sampling {
    /// OpenAI's defaults.
    fn default() -> Self {
        Self { temperature: 1.0, top_p: 1.0, seed: None }
    }
}

/// One request to a tier.
#[derive(Debug, Clone)]
pub struct GenerateRequest {
    /// The gateway's request id, for logs.
    pub id: Arc<str>,
    /// The whole conversation, examples included as earlier user and assistant turns.
    pub messages: Vec<Message>,
    pub sampling: Sampling,
    /// `None`: as many as the context leaves.
    pub max_tokens: Option<u32>,
    /// Generation ends before the first of these; the stop string is not part of the answer.
    pub stop: Vec<String>,
    pub priority: Priority,
    pub deadline: Option<Instant>,
    /// The client's own body, for a remote tier: fields that Reprise does not know pass through. Its `messages`,
    /// `model` and `stream` are replaced by the remote tier.
    pub body: Option<Arc<serde_json::Map<String, serde_json::Value>>>,
}
