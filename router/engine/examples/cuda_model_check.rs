//! Holds the GPU backend to its contract and to the CPU backend.
//!
//! ```text
//! cuda_model_check [random:NAME | GGUF]...
//! ```
//!
//! Some sequences of random tokens are computed on the GPU in whole steps (prompts in chunks of several sizes, alone and together) and
//! sub-layer by sub-layer: their logits must be the same bits each time. Against the CPU: norm of the difference over the norm, and how many
//! largest logits are of the same token.

use std::{error::Error, num::NonZeroUsize, path::Path};

use reprise_engine::{
    backend::{
        CpuBackend, CpuOptions,
        cuda::{CudaBackend, CudaOptions},
    },
    loader::Checkpoint,
};
use reprise_kernels::attention::KvFormat;
use reprise_scheduler::{
    AttentionRow, Backend, BlockId, ExpertId, Head, Heads, PartWork, Row, StepRow, SubLayerKind,
};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

const LENGTHS: [usize; 4] = [150, 33, 64, 1];
const BLOCKS_EACH: usize = 8;
const BLOCK: usize = 32;

fn main() -> Result<()> {
    let mut failed = false;
    for model in std::env::args().skip(1) {
        failed |= !check(&model)?;
    }
    if failed { Err("differences".into()) } else { Ok(()) }
}

fn open(model: &str) -> Result<Checkpoint> {
    Ok(match model.strip_prefix("random:") {
        Some(name) => Checkpoint::random(name)?,
        None => Checkpoint::open(Path::new(model))?,
    })
}

/// A sequence and where its KV lies.
struct Sequence {
    tokens: Vec<u32>,
    blocks: Vec<BlockId>,
}

fn check(model: &str) -> Result<bool> {
    let context = BLOCKS_EACH * BLOCK;
    let kv_blocks = LENGTHS.len() * BLOCKS_EACH;
    let options =
        CudaOptions { ordinal: 0, rows: 256, sequences: 256, kv_blocks, context_length: Some(context) };
    let mut gpu = CudaBackend::load(&mut open(model)?, &options, &mut |_| {}, &|| false)?;
    let vocabulary = u32::try_from(gpu.layout().vocabulary)?;
    let sequences: Vec<Sequence> = (0u32..)
        .zip(LENGTHS)
        .map(|(i, length)| Sequence {
            tokens: (0..length as u32).map(|t| (t * 7919 + i * 104_729 + 11) % vocabulary).collect(),
            // Interleaved.
            blocks: (0..BLOCKS_EACH)
                .map(|b| BlockId(u32::try_from(b * LENGTHS.len()).unwrap_or(0) + i))
                .collect(),
        })
        .collect();
    let whole = steps(&mut gpu, &sequences, 256, true)?;
    let mut same = true;
    for (chunk, together) in [(1, false), (7, false), (64, false), (1, true), (5, true), (50, true)] {
        let found = steps(&mut gpu, &sequences, chunk, together)?;
        same &= report(model, &format!("chunks of {chunk}, together {together}"), &found, &whole);
    }
    let pieces = pieces(&mut gpu, &sequences)?;
    same &= report(model, "sub-layer by sub-layer", &pieces, &whole);

    let options = CpuOptions {
        threads: std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN),
        rows: 256,
        kv_blocks,
        kv_format: KvFormat::F16,
        context_length: Some(context),
    };
    let mut cpu = CpuBackend::load(&mut open(model)?, &options, &mut |_| {}, &|| false)?;
    let expected = self::pieces(&mut cpu, &sequences)?;
    let (mut off, mut norm, mut agree, mut all) = (0f64, 0f64, 0, 0);
    for (found, expected) in whole.iter().zip(&expected) {
        off += found.iter().zip(expected).map(|(a, b)| f64::from(a - b).powi(2)).sum::<f64>();
        norm += expected.iter().map(|b| f64::from(*b).powi(2)).sum::<f64>();
        agree += usize::from(largest(found) == largest(expected));
        all += 1;
    }
    let off = (off / norm).sqrt();
    println!("{model}: off the CPU by {off:.2e}, {agree} of {all} largest logits the same");
    // Activations of quantised models have 8 bits on the CPU.
    Ok(same && off < 0.1)
}

fn largest(logits: &[f32]) -> usize {
    let top = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    logits.iter().position(|logit| *logit == top).unwrap_or(usize::MAX)
}

fn report(model: &str, name: &str, found: &[Vec<f32>], expected: &[Vec<f32>]) -> bool {
    let bits = |rows: &[Vec<f32>]| rows.iter().flatten().map(|x| x.to_bits()).collect::<Vec<_>>();
    let (found, expected) = (bits(found), bits(expected));
    let differ = found.iter().zip(&expected).filter(|(a, b)| a != b).count();
    let same = differ == 0 && found.len() == expected.len();
    println!(
        "{} {model}, {name}: {differ} of {} logits differ",
        if same { "ok  " } else { "FAIL" },
        expected.len()
    );
    same
}

/// Logits after every token, in order of sequences.
fn steps(
    backend: &mut impl Backend,
    sequences: &[Sequence],
    chunk: usize,
    together: bool,
) -> Result<Vec<Vec<f32>>> {
    let vocabulary = backend.layout().vocabulary;
    let mut logits: Vec<Vec<Vec<f32>>> = sequences.iter().map(|_| Vec::new()).collect();
    let groups: Vec<Vec<usize>> = if together {
        vec![(0..sequences.len()).collect()]
    } else {
        (0..sequences.len()).map(|i| vec![i]).collect()
    };
    for group in groups {
        let mut done = vec![0; sequences.len()];
        loop {
            let (mut rows, mut owners) = (Vec::new(), Vec::new());
            for i in group.iter().copied() {
                let sequence = &sequences[i];
                let end = (done[i] + chunk).min(sequence.tokens.len());
                for position in done[i]..end {
                    let (token, blocks) = (sequence.tokens[position], &sequence.blocks[..]);
                    rows.push(StepRow {
                        token,
                        position: u32::try_from(position)?,
                        blocks,
                        head: Head::Logits,
                    });
                    owners.push(i);
                }
                done[i] = end;
            }
            if rows.is_empty() {
                break;
            }
            let mut heads = Heads::default();
            if !backend.step(&rows, &mut heads)? {
                return Err("no steps".into());
            }
            for (owner, row) in owners.into_iter().zip(heads.logits.chunks_exact(vocabulary)) {
                logits[owner].push(row.to_vec());
            }
        }
    }
    Ok(logits.concat())
}

fn pieces(backend: &mut impl Backend, sequences: &[Sequence]) -> Result<Vec<Vec<f32>>> {
    let (mut rows, mut tokens, mut attending) = (Vec::new(), Vec::new(), Vec::new());
    for sequence in sequences {
        for (position, token) in (0u32..).zip(&sequence.tokens) {
            let row = Row(255 - u32::try_from(rows.len())?);
            rows.push(row);
            tokens.push(*token);
            attending.push(AttentionRow { row, position, blocks: &sequence.blocks });
        }
    }
    backend.embed(&rows, &tokens)?;
    let kinds = backend.layout().sub_layers.clone();
    for (at, kind) in kinds.into_iter().enumerate() {
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
                // In two calls, as groups of experts come.
                let middle = parts.partition_point(|part| part.expert < 2);
                backend.experts(at, &parts[..middle])?;
                backend.experts(at, &parts[middle..])?;
                backend.join(at, &rows)?;
            }
        }
    }
    let mut logits = Vec::new();
    backend.logits(&rows, &mut logits)?;
    Ok(logits.chunks_exact(backend.layout().vocabulary).map(<[f32]>::to_vec).collect())
}
