//! What a tier is to its callers.
//!
//! A tier is one model that can answer: run in this process (`reprise-engine`) or reached over HTTP
//! (`reprise-router`'s remote tier). The gateway and the router see only this crate, so neither depends on
//! candle, and a tier's inside can be replaced without moving a wall.
//!
//! Contract of every tier:
//! - [`Tier::submit`] never blocks: its waiting queue is bounded, and a full one is [`TierError::Overloaded`].
//! - Dropping a [`Generation`] cancels it: the tier stops computing and frees what the sequence held.
//! - The event channel holds a whole answer, so a slow reader never stalls a tier.
//! - Every generation ends with exactly one [`Event::Finished`] or one error, before its deadline.

mod device;
mod error;
mod form;
mod generation;
mod pressure;
mod request;
mod tool_call;

use std::sync::Arc;

pub use device::{DeviceCalls, DeviceLoad, ExpertLoad};
pub use error::TierError;
pub use form::{Function, JsonForm, ToolChoice, Tools};
pub use generation::{
    Event, EventSender, Finish, FinishReason, Generation, LikelyToken, Timings, TokenLogprob, Usage, channel,
};
pub use pressure::Pressure;
pub use request::{GenerateRequest, Message, Priority, Role, Sampling};
pub use tool_call::{OutOfOrder, ToolCall, ToolCallPiece, ToolCalls, call_begins, call_goes_on, join};

use schemars::JsonSchema;
use serde::Serialize;

/// What a tier says of itself; constant over its life.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct TierInfo {
    /// The name in the configuration: `small`, `large`.
    pub name: String,
    /// The model's id, as `GET /v1/models` lists it.
    pub model: String,
    /// Prompt and completion together, in tokens.
    pub context_length: u32,
    /// Relative cost of one token, in [0, 1]; the dearest tier of a pool has 1.
    pub cost: f64,
    /// True if the model runs elsewhere, behind an OpenAI-compatible API.
    pub remote: bool,
}

/// Whether a tier can take work.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum TierState {
    /// Weights are being fetched or loaded, or nothing has answered yet.
    Loading,
    Ready,
    /// It does not answer; `reason` is for an operator. A remote tier is looked for again, a local one stays failed.
    Failed {
        reason: String,
    },
}

/// One model that can answer.
pub trait Tier: Send + Sync + std::fmt::Debug {
    fn info(&self) -> &TierInfo;

    fn state(&self) -> TierState;

    /// Queues a request. Returns at once; the answer arrives through the [`Generation`].
    ///
    /// # Errors
    /// [`TierError::NotReady`] while loading or after a failure, [`TierError::Overloaded`] if the waiting queue
    /// is full, [`TierError::ShuttingDown`] while draining. What needs the tokenizer (a prompt over the context, a
    /// schema that cannot be held to) comes as the generation's first event instead.
    fn submit(&self, request: GenerateRequest) -> Result<Generation, TierError>;

    /// Load now; cheap enough to be read for every routing decision.
    fn pressure(&self) -> Pressure;

    /// Tokens that one user turn and one assistant turn add to a prompt, template included.
    fn block_tokens(&self, user: &str, assistant: &str) -> u32;

    /// Of a tier whose model is spread over devices, each of them; else none.
    fn devices(&self) -> Vec<DeviceLoad> {
        Vec::new()
    }
}

/// How the pool hands tiers around.
pub type SharedTier = Arc<dyn Tier>;
