use std::{num::NonZeroUsize, path::PathBuf};

use reprise_kernels::attention::{BLOCK_TOKENS, KvFormat};

use crate::{DeviceKind, backend::CpuOptions};

/// Tokens computed in one tick, at most: what a prefill chunk and the decodes beside it need.
const ROWS: usize = 256;
/// KV memory is for so many sequences of the longest kind; shorter ones are more.
const LONGEST_SEQUENCES: usize = 4;

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

impl LocalConfig {
    /// How a model is run whose own context has `trained_context` tokens. `reprise config check` predicts memory from it and the
    /// worker loads by it.
    #[must_use]
    pub fn cpu_options(&self, trained_context: usize) -> CpuOptions {
        let wanted = self.context_length.map(|tokens| tokens as usize);
        let context = wanted.map_or(trained_context, |wanted| wanted.min(trained_context));
        let cores = || std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
        CpuOptions {
            threads: self.threads.unwrap_or_else(cores),
            rows: ROWS,
            kv_blocks: context.div_ceil(BLOCK_TOKENS) * LONGEST_SEQUENCES,
            kv_format: KvFormat::F16,
            context_length: wanted,
        }
    }
}
