use std::{
    num::{NonZeroU16, NonZeroUsize},
    path::PathBuf,
};

use reprise_kernels::attention::{BLOCK_TOKENS, KvFormat};
use reprise_scheduler::{CoreConfig, ScheduleKind};

use crate::{DeviceKind, backend::CpuOptions};

/// What a local tier is made of. Validated by the caller: `cost` in [0, 1].
#[derive(Debug, Clone)]
pub struct LocalConfig {
    /// The tier's name: `small`, `large`.
    pub name: String,
    /// The id that `GET /v1/models` lists.
    pub model_id: String,
    pub gguf: PathBuf,
    /// Threads that compute. `None`: one per core.
    pub threads: Option<NonZeroUsize>,
    /// The most requests that wait before `submit` refuses.
    pub queue_capacity: NonZeroUsize,
    pub cost: f64,
    pub device: DeviceKind,
    /// Upper bound on the context, in tokens; the model's own bound and `kv_tokens` hold as well.
    pub context_length: Option<u32>,
    /// Sequences computed at once.
    pub max_sequences: NonZeroUsize,
    /// Tokens that the KV memory holds, all sequences together; rounded up to whole blocks. `None`:
    /// [`KV_TOKENS_PER_SEQUENCE`](Self::KV_TOKENS_PER_SEQUENCE) for each sequence, and one whole context at least.
    pub kv_tokens: Option<NonZeroUsize>,
    /// The most prompt tokens computed between two tokens of those who generate.
    pub prefill_chunk: NonZeroUsize,
    /// The model is spread over devices; `device` means nothing then. Only mixtures of experts can be.
    pub spread: Option<Spread>,
}

/// Devices that share one model (expert parallelism). Each is a part of the CPU's threads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Spread {
    pub devices: NonZeroU16,
    pub schedule: ScheduleKind,
}

impl LocalConfig {
    /// What is right for a few cores: more sequences would share each read of the weights, but leave each too slow.
    pub const MAX_SEQUENCES: NonZeroUsize = NonZeroUsize::MIN.saturating_add(15);
    /// Long enough to fill the kernels, short enough to bound the wait between two tokens of others.
    pub const PREFILL_CHUNK: NonZeroUsize = NonZeroUsize::MIN.saturating_add(127);
    pub const KV_TOKENS_PER_SEQUENCE: usize = 1024;
    /// A GPU reads its weights as fast for many as for one.
    const MAX_SEQUENCES_ON_GPU: NonZeroUsize = NonZeroUsize::MIN.saturating_add(63);
    const PREFILL_CHUNK_ON_GPU: NonZeroUsize = NonZeroUsize::MIN.saturating_add(1023);

    #[must_use]
    pub const fn default_max_sequences(device: DeviceKind) -> NonZeroUsize {
        match device {
            DeviceKind::Cpu => Self::MAX_SEQUENCES,
            DeviceKind::Cuda(_) => Self::MAX_SEQUENCES_ON_GPU,
        }
    }

    #[must_use]
    pub const fn default_prefill_chunk(device: DeviceKind) -> NonZeroUsize {
        match device {
            DeviceKind::Cpu => Self::PREFILL_CHUNK,
            DeviceKind::Cuda(_) => Self::PREFILL_CHUNK_ON_GPU,
        }
    }

    /// KV blocks for a model of this context, and the context that they leave: no sequence may need more than all of them.
    pub(crate) fn kv_blocks(&self, context_length: usize, block_tokens: usize) -> (usize, usize) {
        let sequences = self.max_sequences.get();
        let most = sequences.saturating_mul(context_length);
        let share = sequences.saturating_mul(Self::KV_TOKENS_PER_SEQUENCE).clamp(context_length, most);
        let tokens = self.kv_tokens.map_or(share, NonZeroUsize::get);
        let blocks = tokens.div_ceil(block_tokens).max(1);
        (blocks, context_length.min(blocks * block_tokens))
    }
}

impl LocalConfig {
    /// How a model is run whose own context has `trained_context` tokens. `reprise config check` predicts memory from it and the
    /// worker loads by it.
    #[must_use]
    pub fn cpu_options(&self, trained_context: usize) -> CpuOptions {
        let wanted = self.context_length.map_or(trained_context, |most| trained_context.min(most as usize));
        let (kv_blocks, context_length) = self.kv_blocks(wanted, BLOCK_TOKENS);
        CpuOptions {
            threads: self.compute_threads(),
            rows: self.ticks().max_rows,
            kv_blocks,
            kv_format: KvFormat::F16,
            context_length: Some(context_length),
        }
    }

    /// Bounds and options of each device where the model is spread over several: its share of sequences, threads and KV, which must
    /// hold one whole context, and room for the rows of all.
    pub(crate) fn device_options(&self, spread: Spread, trained_context: usize) -> (CoreConfig, CpuOptions) {
        let whole = self.cpu_options(trained_context);
        let count = usize::from(spread.devices.get());
        let (max_sequences, prefill_chunk) =
            (self.max_sequences.get().div_ceil(count), self.prefill_chunk.get());
        let max_rows = max_sequences.saturating_add(prefill_chunk);
        let context = whole.context_length.unwrap_or(trained_context).div_ceil(BLOCK_TOKENS);
        let options = CpuOptions {
            threads: NonZeroUsize::new(whole.threads.get() / count).unwrap_or(NonZeroUsize::MIN),
            rows: max_rows * count * usize::from(spread.schedule.lanes()),
            kv_blocks: whole.kv_blocks.div_ceil(count).max(context),
            ..whole
        };
        (CoreConfig { max_sequences, prefill_chunk, max_rows }, options)
    }

    /// What all devices take together is what one with these options would.
    pub(crate) fn memory_options(&self, trained_context: usize) -> CpuOptions {
        let Some(spread) = self.spread else { return self.cpu_options(trained_context) };
        let (count, (_, each)) =
            (usize::from(spread.devices.get()), self.device_options(spread, trained_context));
        CpuOptions { rows: each.rows * count, kv_blocks: each.kv_blocks * count, ..each }
    }

    /// The same on `cuda:{ordinal}`.
    #[cfg(feature = "cuda")]
    #[must_use]
    pub fn cuda_options(&self, ordinal: usize, trained_context: usize) -> crate::backend::cuda::CudaOptions {
        let CpuOptions { rows, kv_blocks, context_length, .. } = self.cpu_options(trained_context);
        let sequences = self.max_sequences.get();
        crate::backend::cuda::CudaOptions { ordinal, rows, sequences, kv_blocks, context_length }
    }

    /// As configured, or one per core.
    pub(crate) fn compute_threads(&self) -> NonZeroUsize {
        self.threads.or_else(|| std::thread::available_parallelism().ok()).unwrap_or(NonZeroUsize::MIN)
    }

    /// The bounds of a tick.
    pub(crate) fn ticks(&self) -> CoreConfig {
        let (max_sequences, prefill_chunk) = (self.max_sequences.get(), self.prefill_chunk.get());
        CoreConfig { max_sequences, prefill_chunk, max_rows: max_sequences.saturating_add(prefill_chunk) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kv_holds_a_context_and_its_share_for_each() {
        let blocks = |sequences: usize, kv_tokens: Option<usize>, context| {
            let config = LocalConfig {
                name: String::new(),
                model_id: String::new(),
                gguf: PathBuf::new(),
                threads: None,
                queue_capacity: NonZeroUsize::MIN,
                cost: 0.0,
                device: DeviceKind::Cpu,
                context_length: None,
                max_sequences: NonZeroUsize::new(sequences).expect("not zero"),
                kv_tokens: kv_tokens.and_then(NonZeroUsize::new),
                prefill_chunk: LocalConfig::PREFILL_CHUNK,
                spread: None,
            };
            config.kv_blocks(context, 32)
        };
        assert_eq!(blocks(16, None, 8192), (512, 8192));
        assert_eq!(blocks(16, None, 32768), (1024, 32768), "one context at least");
        assert_eq!(blocks(4, None, 100), (13, 100), "no more than all sequences can fill");
        assert_eq!(blocks(16, Some(100), 8192), (4, 128), "less KV, less context");
    }
}
