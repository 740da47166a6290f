//! Greedy text through the backend alone, one sequence at a time: our side of `bench/llama_cpp/greedy.py`.
//!
//! ```text
//! greedy GGUF [--generate 64] [--threads 2] [--chunk 64] [--kv f32|f16] [--device cpu] < prompts.jsonl > tokens.jsonl
//! ```
//!
//! In: `{"id", "prompt"}`, a user's message. Out: `{"id", "prompt_tokens": [..], "generated": [[[token, logit], ..], ..]}`, at each step
//! the eight likeliest tokens, of which the first was taken; the prompt went through the model's own chat template, and generation
//! ends after `--generate` tokens or an end token.

use std::{
    error::Error,
    io::{BufRead, Write},
    num::NonZeroUsize,
    path::Path,
};

use reprise_engine::{
    ChatTemplate, DeviceKind, Vocabulary,
    backend::{CpuBackend, CpuOptions},
    inspect::Gguf,
    loader::Checkpoint,
};
use reprise_kernels::attention::KvFormat;
use reprise_scheduler::{
    AttentionRow, Backend, BlockId, ExpertId, Head, Heads, PartWork, Row, StepRow, SubLayerKind,
};
use reprise_tier::{Message, Role};
use serde::Deserialize;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

const CONTEXT: usize = 2048;
const BLOCK: usize = 32;
/// Tokens that are told of a step.
const CANDIDATES: usize = 8;

#[derive(Deserialize)]
struct Prompt {
    id: String,
    prompt: String,
}

struct Arguments {
    gguf: String,
    generate: usize,
    threads: NonZeroUsize,
    chunk: usize,
    device: DeviceKind,
    kv_format: KvFormat,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse()?;
    let gguf = Gguf::open(Path::new(&arguments.gguf))?;
    let vocabulary = Vocabulary::from_gguf(&gguf)?;
    let template = ChatTemplate::from_gguf(&gguf, &vocabulary)?;
    let options = CpuOptions {
        threads: arguments.threads,
        rows: arguments.chunk,
        kv_blocks: CONTEXT / BLOCK,
        kv_format: arguments.kv_format,
        context_length: Some(CONTEXT),
    };
    let mut checkpoint = Checkpoint::from_gguf(gguf)?;
    let mut backend = open(&arguments, &mut checkpoint, &options)?;
    let mut out = std::io::stdout().lock();
    for line in std::io::stdin().lock().lines() {
        let Prompt { id, prompt } = serde_json::from_str(&line?)?;
        let text = template.render(&[Message::new(Role::User, prompt)], true)?;
        let tokens = vocabulary.encode_with_controls(&text)?;
        let generated = greedy(&mut *backend, &tokens, &arguments, &|token| vocabulary.is_end(token))?;
        let answer = serde_json::json!({ "id": id, "prompt_tokens": tokens, "generated": generated });
        writeln!(out, "{answer}")?;
    }
    Ok(())
}

fn open(
    arguments: &Arguments,
    checkpoint: &mut Checkpoint,
    options: &CpuOptions,
) -> Result<Box<dyn Backend>> {
    match arguments.device {
        DeviceKind::Cpu => Ok(Box::new(CpuBackend::load(checkpoint, options, &mut |_| {}, &|| false)?)),
        #[cfg(feature = "cuda")]
        DeviceKind::Cuda(ordinal) => {
            use reprise_engine::backend::cuda::{CudaBackend, CudaOptions};
            let CpuOptions { rows, kv_blocks, context_length, .. } = *options;
            let options = CudaOptions { ordinal, rows, sequences: 1, kv_blocks, context_length };
            Ok(Box::new(CudaBackend::load(checkpoint, &options, &mut |_| {}, &|| false)?))
        }
        #[cfg(not(feature = "cuda"))]
        DeviceKind::Cuda(_) => Err("built without the feature `cuda`".into()),
    }
}

/// Tokens and their logits, the likeliest first.
type Step = Vec<(u32, f32)>;

fn greedy(
    backend: &mut dyn Backend,
    prompt: &[u32],
    arguments: &Arguments,
    is_end: &dyn Fn(u32) -> bool,
) -> Result<Vec<Step>> {
    if prompt.len() + arguments.generate > CONTEXT {
        return Err(format!("a prompt of {} tokens is too long", prompt.len()).into());
    }
    let blocks: Vec<BlockId> = (0..).take(CONTEXT / BLOCK).map(BlockId).collect();
    let (mut position, mut steps) = (0, Vec::new());
    let mut logits = Vec::new();
    for chunk in prompt.chunks(arguments.chunk) {
        forward(backend, chunk, position, &blocks, &mut logits)?;
        position += u32::try_from(chunk.len())?;
    }
    loop {
        let step = likeliest(&logits);
        let (token, _) = *step.first().ok_or("no logits")?;
        steps.push(step);
        if steps.len() == arguments.generate || is_end(token) {
            return Ok(steps);
        }
        forward(backend, &[token], position, &blocks, &mut logits)?;
        position += 1;
    }
}

/// Tokens of one sequence from `position` on; leaves the logits of the last in `logits`.
fn forward(
    backend: &mut dyn Backend,
    tokens: &[u32],
    position: u32,
    blocks: &[BlockId],
    logits: &mut Vec<f32>,
) -> Result<()> {
    let last = tokens.len().saturating_sub(1);
    let head = |i: usize| if i == last { Head::Logits } else { Head::Nothing };
    let step: Vec<StepRow<'_>> = tokens
        .iter()
        .zip(position..)
        .enumerate()
        .map(|(i, (token, position))| StepRow { token: *token, position, blocks, head: head(i) })
        .collect();
    let mut heads = Heads::default();
    if backend.step(&step, &mut heads)? {
        *logits = heads.logits;
        return Ok(());
    }
    let rows: Vec<Row> = (0..).map(Row).take(tokens.len()).collect();
    let attending: Vec<AttentionRow<'_>> = rows
        .iter()
        .zip(position..)
        .map(|(row, position)| AttentionRow { row: *row, position, blocks })
        .collect();
    backend.embed(&rows, tokens)?;
    let sub_layers = backend.layout().sub_layers.clone();
    for (at, kind) in sub_layers.into_iter().enumerate() {
        match kind {
            SubLayerKind::Attention => backend.attention(at, &attending)?,
            SubLayerKind::DenseFeedForward => backend.feed_forward(at, &rows)?,
            SubLayerKind::Experts { top_k, .. } => {
                let mut experts: Vec<ExpertId> = Vec::new();
                backend.gate(at, &rows, &mut experts)?;
                let slots = rows.iter().flat_map(|row| (0..top_k).map(|slot| (*row, slot)));
                let mut parts: Vec<PartWork> = slots
                    .zip(&experts)
                    .map(|((row, slot), expert)| PartWork { row, slot, expert: *expert })
                    .collect();
                parts.sort_by_key(|part| part.expert);
                backend.experts(at, &parts)?;
                backend.join(at, &rows)?;
            }
        }
    }
    let last = rows.last().ok_or("no tokens")?;
    backend.logits(&[*last], logits)?;
    Ok(())
}

/// Of equal logits the one with the lower token is first.
fn likeliest(logits: &[f32]) -> Step {
    let mut found = Step::with_capacity(CANDIDATES + 1);
    for (token, logit) in (0_u32..).zip(logits) {
        let place = found.partition_point(|(_, other)| other >= logit);
        if place < CANDIDATES {
            found.insert(place, (token, *logit));
            found.truncate(CANDIDATES);
        }
    }
    found
}

impl Arguments {
    fn parse() -> Result<Self> {
        let mut given = std::env::args().skip(1);
        let usage = "usage: greedy GGUF [--generate N] [--threads N] [--chunk N] [--kv f32|f16] [--device cpu|cuda:N]";
        let gguf = given.next().ok_or(usage)?;
        let threads = NonZeroUsize::MIN.saturating_add(1);
        let mut arguments = Self {
            gguf,
            generate: 64,
            threads,
            chunk: 64,
            device: DeviceKind::Cpu,
            kv_format: KvFormat::F32,
        };
        while let Some(name) = given.next() {
            let value = given.next().ok_or_else(|| format!("{name} needs a value"))?;
            match name.as_str() {
                "--generate" => arguments.generate = value.parse()?,
                "--threads" => arguments.threads = value.parse()?,
                "--chunk" => arguments.chunk = value.parse()?,
                "--device" => arguments.device = value.parse()?,
                "--kv" => {
                    arguments.kv_format = match value.as_str() {
                        "f32" => KvFormat::F32,
                        "f16" => KvFormat::F16,
                        _ => return Err(format!("--kv is f32 or f16, not {value}").into()),
                    }
                }
                _ => return Err(format!("unknown argument {name}").into()),
            }
        }
        Ok(arguments)
    }
}
