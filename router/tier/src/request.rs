use std::{num::NonZeroU32, sync::Arc, time::Instant};

use serde::{Deserialize, Serialize};

use crate::{JsonForm, ToolCall, Tools};

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
    /// What the assistant called in this turn.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tool_calls: Vec<ToolCall>,
    /// The call whose result a tool's turn is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tool_call_id: Option<String>,
}

impl Message {
    #[must_use]
    pub fn new(role: Role, content: impl Into<String>) -> Self {
        Self { role, content: content.into(), tool_calls: Vec::new(), tool_call_id: None }
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

/// How the next token is drawn. Values are validated by the gateway; an engine may rely on the ranges given here.
///
/// They act in this order on a row of logits: bias, repetition penalty, frequency and presence penalty, temperature,
/// `min_p` and `top_k`, `top_p` over what these leave.
#[derive(Debug, Clone, PartialEq)]
pub struct Sampling {
    /// In [0, 2]; 0 is greedy.
    pub temperature: f32,
    /// Only so many of the likeliest tokens; `None`: all.
    pub top_k: Option<NonZeroU32>,
    /// In (0, 1]: only the fewest likeliest tokens whose probabilities reach it; 1: all.
    pub top_p: f32,
    /// In [0, 1]: only tokens at least so likely as this part of the likeliest; 0: all.
    pub min_p: f32,
    /// In [-2, 2]: taken off a token's logit for each time it stands in this answer so far, prompt not included.
    pub frequency_penalty: f32,
    /// In [-2, 2]: taken off a token's logit once if it stands in this answer so far.
    pub presence_penalty: f32,
    /// In (0, 2], 1 is none: what the positive logit of a token in this answer so far is divided by, and a negative one
    /// multiplied with. The prompt does not count: examples in it are not the client's, and are there to be followed.
    pub repetition_penalty: f32,
    /// Added to the logits of these tokens, each in [-100, 100]; ascending ids of the tier's own vocabulary, each once.
    pub logit_bias: Vec<(u32, f32)>,
    /// The same seed, prompt and model give the same tokens; `None` draws one.
    pub seed: Option<u64>,
    /// Tell each token's log probability, and those of so many of the likeliest tokens in its place, 20 at most.
    pub logprobs: Option<u8>,
}

impl Default for Sampling {
    /// OpenAI's defaults.
    fn default() -> Self {
        Self {
            temperature: 1.0,
            top_k: None,
            top_p: 1.0,
            min_p: 0.0,
            frequency_penalty: 0.0,
            presence_penalty: 0.0,
            repetition_penalty: 1.0,
            logit_bias: Vec::new(),
            seed: None,
            logprobs: None,
        }
    }
}

/// One request to a tier.
#[derive(Debug, Clone, Default)]
pub struct GenerateRequest {
    /// The gateway's request id, for logs.
    pub id: Arc<str>,
    /// The whole conversation, examples included as earlier user and assistant turns.
    pub messages: Vec<Message>,
    /// In place of messages: text to go on with as it stands, without a chat template.
    pub text: Option<String>,
    pub sampling: Sampling,
    /// `None`: as many as the context leaves.
    pub max_tokens: Option<u32>,
    /// Generation ends before the first of these; the stop string is not part of the answer.
    pub stop: Vec<String>,
    /// What the answer has to be; where tools are called instead, nothing.
    pub form: Option<JsonForm>,
    pub tools: Option<Arc<Tools>>,
    pub priority: Priority,
    pub deadline: Option<Instant>,
    /// Requests of one scope may share what the engine computed of their prompts; those of two scopes never do, because what
    /// is shared comes sooner, and so would tell one of the other's prompt. One scope per tenant; the number means nothing
    /// else.
    pub scope: u64,
    /// The client's own body, for a remote tier: fields that Reprise does not know pass through. Its `messages`,
    /// `model` and `stream` are replaced by the remote tier.
    pub body: Option<Arc<serde_json::Map<String, serde_json::Value>>>,
    /// W3C `traceparent` for a remote tier.
    pub traceparent: Option<Arc<str>>,
}
