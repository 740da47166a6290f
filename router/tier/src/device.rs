use schemars::JsonSchema;
use serde::Serialize;

/// What one device of a tier whose model is spread over devices has done since its start, and what waits on it now.
#[derive(Debug, Clone, Default, PartialEq, Serialize, JsonSchema)]
pub struct DeviceLoad {
    /// Seconds in calls.
    pub busy_seconds: f64,
    /// By kind of call: embed, sub_layer (attention, dense feed-forward, gate), experts, head.
    pub calls: Vec<DeviceCalls>,
    /// Parts of rows that its experts computed.
    pub expert_parts: u64,
    /// Its experts, by gated sub-layer and expert.
    pub experts: Vec<ExpertLoad>,
    /// Entries that wait, by sub-layer: `s3`; `e3` for the experts of a gated one; `embed`, `head`.
    pub queue_depth: Vec<(String, usize)>,
    /// Mean depth of the micro-queues that hold any, in rows: a part of a row is a share of one.
    pub mean_queue_depth: f64,
    /// How long the oldest entry waits.
    pub oldest_seconds: f64,
    /// Share of its KV memory in use, in [0, 1].
    pub kv_used: f64,
    /// Blocks of its KV memory.
    pub kv_blocks: usize,
}

/// One expert on one device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
pub struct ExpertLoad {
    pub sub_layer: u16,
    pub expert: u16,
    /// Parts of rows that wait for it now.
    pub waiting: usize,
    /// Parts of rows that it computed.
    pub parts: u64,
}

/// Calls of one kind, and their rows or parts all together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
pub struct DeviceCalls {
    pub kind: &'static str,
    pub calls: u64,
    pub entries: u64,
}
