use std::time::Instant;

use serde::Serialize;

use crate::{EngineError, LocalConfig, gguf::Gguf, model, worker::PREFILL_CHUNK};

/// Speeds of one model on this machine, one sequence at a time.
#[derive(Debug, Clone, Serialize)]
pub struct BenchReport {
    pub model: String,
    pub device: String,
    /// Threads for attention and element-wise work.
    pub threads: usize,
    /// Threads for quantised matrix products: `CANDLE_NUM_THREADS`, or the physical cores.
    pub matmul_threads: usize,
    pub batch: usize,
    pub prompt_tokens: usize,
    pub generated_tokens: usize,
    pub load_seconds: f64,
    pub prefill_tokens_per_second: f64,
    pub decode_tokens_per_second: f64,
    /// Of the whole process; absent where the system does not tell.
    pub resident_bytes: Option<u64>,
}

/// Loads the model on the calling thread and measures, after one unmeasured pass, the prefill of `prompt_tokens`
/// tokens and then the decode of `generate_tokens`.
///
/// # Errors
/// If the model does not load, or both together exceed its context.
pub fn bench_engine(
    config: &LocalConfig,
    prompt_tokens: usize,
    generate_tokens: usize,
) -> Result<BenchReport, EngineError> {
    let threads =
        config.threads.map_or_else(candle_core::utils::get_num_threads, std::num::NonZeroUsize::get);
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
    let pool = pool.map_err(|error| EngineError::Thread(error.to_string()))?;
    pool.install(|| measure(config, prompt_tokens, generate_tokens, threads))
}

fn measure(
    config: &LocalConfig,
    prompt_tokens: usize,
    generate_tokens: usize,
    threads: usize,
) -> Result<BenchReport, EngineError> {
    let begun = Instant::now();
    let device = config.device.open()?;
    let mut gguf = Gguf::open(&config.gguf)?;
    let context = model::trained_context(&gguf)?.min(config.context_length.unwrap_or(u32::MAX)) as usize;
    let model = model::load(&mut gguf, context, &device, &|| false)?;
    let load_seconds = begun.elapsed().as_secs_f64();

    let prompt: Vec<u32> =
        (0..).map(|i: u32| 100 + i.wrapping_mul(7919) % 10_000).take(prompt_tokens).collect();
    model.new_sequence().forward(prompt.get(..prompt.len().min(PREFILL_CHUNK)).unwrap_or(&prompt))?;
    let mut sequence = model.new_sequence();
    let begun = Instant::now();
    for chunk in prompt.chunks(PREFILL_CHUNK) {
        sequence.forward(chunk)?;
    }
    let prefill = begun.elapsed().as_secs_f64();
    let begun = Instant::now();
    for token in 100..100 + u32::try_from(generate_tokens).unwrap_or(u32::MAX - 100) {
        sequence.forward(&[token % 10_000])?;
    }
    let decode = begun.elapsed().as_secs_f64();
    Ok(BenchReport {
        model: config.model_id.clone(),
        device: config.device.to_string(),
        threads,
        matmul_threads: candle_core::utils::barrier_pool().n_workers() + 1,
        batch: 1,
        prompt_tokens,
        generated_tokens: generate_tokens,
        load_seconds,
        prefill_tokens_per_second: prompt_tokens as f64 / prefill,
        decode_tokens_per_second: generate_tokens as f64 / decode,
        resident_bytes: resident_bytes(),
    })
}

fn resident_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    Some(line.split_whitespace().next()?.parse::<u64>().ok()? * 1024)
}
