//! An example as the admin interface shows it: without its vector, and with the contract's names.

use reprise_cache::{Example, ExampleId};
use schemars::JsonSchema;
use serde::Serialize;

#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Example")]
pub struct ExampleView {
    id: ExampleId,
    request: String,
    answer: String,
    /// False if it was answered under instructions: without them the request asks for something else.
    context_free: bool,
    source_tier: String,
    /// Measured, in [0, 1].
    quality: Option<f32>,
    created_at_ms: i64,
    updated_at_ms: i64,
    /// Decayed count of offloads, as of `valued_at_ms`.
    value: f64,
    valued_at_ms: i64,
    replay_gain: f64,
    uses: u64,
    /// Times it would have stood in a prompt if its answer were better.
    missed: u64,
    replays: u32,
    merged: u32,
    bytes: usize,
}

impl From<&Example> for ExampleView {
    fn from(example: &Example) -> Self {
        Self {
            id: example.id,
            request: example.request.clone(),
            answer: example.answer.clone(),
            context_free: example.instructions.is_none(),
            source_tier: example.source.clone(),
            quality: example.quality,
            created_at_ms: example.created_at_ms,
            updated_at_ms: example.updated_at_ms,
            value: example.value,
            valued_at_ms: example.valued_at_ms,
            replay_gain: example.replay_gain,
            uses: example.uses,
            missed: example.missed,
            replays: example.replays,
            merged: example.merged,
            bytes: example.bytes,
        }
    }
}
