use std::{num::NonZeroUsize, time::Instant};

use reprise_scheduler::{Backend, Finished, Moment, NewSequence, Pipeline, Priority};
use serde::Serialize;

use crate::{EngineError, LocalConfig, loader::Checkpoint, worker};

/// Speeds of one model on this machine.
#[derive(Debug, Clone, Serialize)]
pub struct BenchReport {
    pub model: String,
    pub device: String,
    pub threads: usize,
    /// Sequences at once.
    pub batch: usize,
    /// Of each sequence.
    pub prompt_tokens: usize,
    pub generated_tokens: usize,
    pub repeats: usize,
    pub load_seconds: f64,
    /// All sequences together.
    pub prefill_tokens_per_second: f64,
    pub decode_tokens_per_second: f64,
    /// Of the whole process; absent where the system does not tell.
    pub resident_bytes: Option<u64>,
}

/// Loads the model on the calling thread and measures, after one unmeasured pass, the prefill of `prompt_tokens`
/// tokens and then the decode of `generate_tokens`, of as many sequences at once as the configuration computes: the medians of
/// `repeats` passes. The prompts
/// differ, so that nothing is shared. Tokens are chosen greedily, where that is part of the backend, and then replaced by others. A
/// `model_id` of `random:NAME` takes [`Checkpoint::random`] instead of a file.
///
/// # Errors
/// If the model does not load, or both together exceed its context or the KV memory.
pub fn bench_engine(
    config: &LocalConfig,
    prompt_tokens: usize,
    generate_tokens: usize,
    repeats: NonZeroUsize,
) -> Result<BenchReport, EngineError> {
    let batch = config.max_sequences.get();
    let mut config = config.clone();
    config.kv_tokens = config.kv_tokens.or_else(|| {
        // Each sequence in whole blocks, and the one that the scheduler wants free for each.
        NonZeroUsize::new(batch.saturating_mul((prompt_tokens + generate_tokens).next_multiple_of(32) + 32))
    });
    let begun = Instant::now();
    let checkpoint = match config.model_id.strip_prefix("random:") {
        Some(shape) => Checkpoint::random(shape)?,
        None => Checkpoint::open(&config.gguf)?,
    };
    let mut backend = worker::open(&config, checkpoint, &|| false)?;
    let load_seconds = begun.elapsed().as_secs_f64();

    // Two steps: on a GPU the first of a size is recorded.
    run(&config, &mut backend, prompt_tokens.min(config.prefill_chunk.get()), 2)?;
    let passes = (0..repeats.get())
        .map(|_| run(&config, &mut backend, prompt_tokens, generate_tokens))
        .collect::<Result<Vec<_>, _>>()?;
    let (prefill, decode): (Vec<_>, Vec<_>) = passes.into_iter().unzip();
    let (prefill, decode) = (median(prefill), median(decode));
    Ok(BenchReport {
        model: config.model_id.clone(),
        device: config.device.to_string(),
        threads: config.compute_threads().get(),
        batch,
        prompt_tokens,
        generated_tokens: generate_tokens,
        repeats: repeats.get(),
        load_seconds,
        prefill_tokens_per_second: (batch * prompt_tokens) as f64 / prefill,
        decode_tokens_per_second: (batch * generate_tokens) as f64 / decode,
        resident_bytes: resident_bytes(),
    })
}

/// Of two in the middle, the larger.
fn median(mut seconds: Vec<f64>) -> f64 {
    seconds.sort_by(f64::total_cmp);
    seconds.get(seconds.len() / 2).copied().unwrap_or(f64::NAN)
}

/// Seconds until every sequence has its first logits, and from there until each has `generate` more.
fn run(
    config: &LocalConfig,
    backend: &mut impl Backend,
    prompt: usize,
    generate: usize,
) -> Result<(f64, f64), EngineError> {
    let mut pipeline = worker::pipeline(config, backend)?;
    let mut out = Finished::default();
    let batch = u32::try_from(config.max_sequences.get()).unwrap_or(u32::MAX);
    let vocabulary = u32::try_from(backend.layout().vocabulary).unwrap_or(u32::MAX);
    let token = |i: u32| (100 + i.wrapping_mul(7919) % 10_000) % vocabulary;
    for sequence in 0..batch {
        let new = NewSequence {
            tokens: (sequence * 31..).map(token).take(prompt).collect(),
            max_new: generate,
            priority: Priority::Interactive,
            deadline: None,
            scope: sequence.into(),
            greedy: true,
        };
        pipeline.start(new).map_err(|error| EngineError::Inconsistent(error.to_string()))?;
    }
    // Sequences that are through with their prompt wait for the others, so that the two speeds do not mix.
    let mut ready = Vec::new();
    let begun = Instant::now();
    while ready.len() < batch as usize {
        turn(&mut pipeline, backend, &mut out)?;
        ready.extend(out.ready());
    }
    let prefill = begun.elapsed().as_secs_f64();
    let begun = Instant::now();
    for step in 0..u32::try_from(generate).unwrap_or(u32::MAX) {
        // Each another token: equal ones would go to the same experts.
        ready.drain(..).zip(0..).for_each(|(id, i)| pipeline.push(id, token(step + i * 31)));
        while ready.len() < batch as usize {
            turn(&mut pipeline, backend, &mut out)?;
            ready.extend(out.ready());
        }
    }
    Ok((prefill, begun.elapsed().as_secs_f64()))
}

fn turn(pipeline: &mut Pipeline, backend: &mut impl Backend, out: &mut Finished) -> Result<(), EngineError> {
    let turn = pipeline
        .turn(backend, Moment::default(), out)
        .map_err(|error| EngineError::Inconsistent(error.to_string()))?;
    if turn.computed {
        return Ok(());
    }
    Err(EngineError::Inconsistent("the sequences do not fit the KV memory together".into()))
}

fn resident_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    Some(line.split_whitespace().next()?.parse::<u64>().ok()? * 1024)
}
