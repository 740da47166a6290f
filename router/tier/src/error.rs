use std::{borrow::Cow, time::Duration};

use thiserror::Error;

/// Why a tier did not answer: whose fault it is and whether another attempt can help.
#[derive(Debug, Clone, Error)]
pub enum TierError {
    /// Client may retry after the given time; another tier may take it now.
    #[error("the tier's queue is full")]
    Overloaded { retry_after: Duration },
    #[error("the tier is not ready: {reason}")]
    NotReady { reason: String },
    #[error("the tier is shutting down")]
    ShuttingDown,
    /// The client's fault.
    #[error(
        "this model's maximum context length is {context_length} tokens, but the messages hold {prompt_tokens} \
         and {max_tokens} are asked for the completion"
    )]
    ContextExceeded { prompt_tokens: u32, max_tokens: u32, context_length: u32 },
    /// The client's fault; `param` is the name of the field in OpenAI's request.
    #[error("{message}")]
    InvalidRequest { param: Cow<'static, str>, message: String },
    /// This tier cannot do what the field `param` asks for; another may.
    #[error("{message}")]
    Unsupported { param: Cow<'static, str>, message: String },
    #[error("the deadline passed before the answer was complete")]
    DeadlineExceeded,
    /// A remote tier answered with an error status, or not at all (`status` is `None`).
    #[error("upstream: {message}")]
    Upstream { status: Option<u16>, message: String, retry_after: Option<Duration> },
    /// The tier's own fault.
    #[error("the tier failed: {message}")]
    Internal { message: String },
}

impl TierError {
    /// True if another tier could still answer the same request.
    #[must_use]
    pub fn another_tier_may_help(&self) -> bool {
        match self {
            Self::InvalidRequest { .. } | Self::DeadlineExceeded => false,
            Self::Upstream { status: Some(status), .. } => {
                *status == 408 || *status == 429 || *status >= 500 || *status == 401 || *status == 403
            }
            _ => true,
        }
    }

    /// True if the client, not the tier, is to blame: never counted as a failure of the tier.
    #[must_use]
    pub fn is_clients_fault(&self) -> bool {
        matches!(self, Self::InvalidRequest { .. } | Self::Unsupported { .. } | Self::ContextExceeded { .. })
            || matches!(self, Self::Upstream { status: Some(400 | 404 | 413 | 422), .. })
    }
}
