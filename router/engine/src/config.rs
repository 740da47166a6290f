use std::{num::NonZeroUsize, path::PathBuf};

use crate::DeviceKind;

/// What a local tier is made of. Validated by the caller: `cost` in [0, 1].
#[derive(Debug, Clone)]
pub struct LocalConfig {
    /// The tier's name: `small`, `large`.
    pub name: String,
    /// The id that `GET /v1/models` lists.
    pub model_id: String,
    pub gguf: PathBuf,
    /// Threads for this tier's attention and element-wise work. Quantised matrix products run on candle's one
    /// pool per process, sized by `CANDLE_NUM_THREADS` at its first use. `None`: as many as candle takes.
    pub threads: Option<NonZeroUsize>,
    /// The most requests that wait before `submit` refuses.
    pub queue_capacity: NonZeroUsize,
    pub cost: f64,
    pub device: DeviceKind,
    /// Upper bound on the context, in tokens; the model's own bound holds as well.
    pub context_length: Option<u32>,
}
