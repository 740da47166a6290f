use schemars::JsonSchema;
use serde::Serialize;

/// Load of one tier at one moment: what the router's load bias and the autoscaler read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, JsonSchema)]
pub struct Pressure {
    /// Sequences waiting, none of their work done.
    pub waiting: usize,
    /// Sequences being generated.
    pub running: usize,
    /// The most of them at once: a batch.
    pub places: usize,
    /// The most sequences that can wait before `submit` refuses.
    pub queue_capacity: usize,
    /// Predicted seconds until a request submitted now would start, from measured speeds.
    pub queued_seconds: f64,
    /// Mean depth of the engine's micro-queues, in tokens; 0 where there are none.
    pub micro_queue_depth: f64,
    /// Share of the KV memory in use, in [0, 1].
    pub kv_used: f64,
    /// Blocks of the KV memory; 0 where there is none.
    pub kv_blocks: usize,
}
