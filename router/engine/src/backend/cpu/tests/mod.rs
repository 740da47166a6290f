//! Logits against references, and the contract that a row's bits depend on its own sequence only.

mod cluster;
mod memory;
mod smollm2;
mod tiny;
mod upcycled;

use std::num::NonZeroUsize;

use reprise_scheduler::BlockId;

use super::*;

pub(super) fn options(threads: usize, kv_format: KvFormat) -> CpuOptions {
    CpuOptions {
        threads: NonZeroUsize::new(threads).expect("threads"),
        rows: 128,
        kv_blocks: 24,
        kv_format,
        context_length: None,
    }
}

pub(super) fn backend(mut checkpoint: Checkpoint, options: &CpuOptions) -> CpuBackend {
    CpuBackend::load(&mut checkpoint, options, &mut |_| {}, &|| false).expect("loads")
}

/// A sequence and where its KV lies.
pub(super) struct Sequence {
    pub(super) tokens: Vec<u32>,
    pub(super) done: usize,
    blocks: Vec<BlockId>,
}

/// Sequences whose blocks lie interleaved.
pub(super) fn sequences(tokens: &[Vec<u32>]) -> Vec<Sequence> {
    let longest = tokens.iter().map(Vec::len).max().unwrap_or(0).div_ceil(BLOCK_TOKENS);
    let block = |sequence: usize, index: usize| {
        BlockId(u32::try_from(index * tokens.len() + tokens.len() - 1 - sequence).expect("small"))
    };
    let all = tokens.iter().enumerate();
    all.map(|(i, tokens)| Sequence {
        tokens: tokens.clone(),
        done: 0,
        blocks: (0..longest).map(|index| block(i, index)).collect(),
    })
    .collect()
}

/// Computes the next tokens of sequences in one batch: (index of the sequence, how many). Returns the logits after each token, in order.
/// `place` says in which row of the arena the i-th token lies.
pub(super) fn forward(
    backend: &mut CpuBackend,
    sequences: &mut [Sequence],
    batch: &[(usize, usize)],
    place: impl Fn(usize) -> u32,
) -> Vec<Vec<f32>> {
    let mut picked = Vec::new();
    for &(index, count) in batch {
        let begin = sequences[index].done;
        picked.extend((begin..begin + count).map(|position| (index, position)));
        sequences[index].done += count;
    }
    let rows: Vec<Row> = (0..picked.len()).map(|i| Row(place(i))).collect();
    let tokens: Vec<u32> =
        picked.iter().map(|(index, position)| sequences[*index].tokens[*position]).collect();
    let attention: Vec<_> = picked
        .iter()
        .zip(&rows)
        .map(|((index, position), row)| AttentionRow {
            row: *row,
            position: u32::try_from(*position).expect("small"),
            blocks: &sequences[*index].blocks,
        })
        .collect();
    backend.embed(&rows, &tokens).expect("embeds");
    for (layer, kind) in backend.layout().sub_layers.clone().into_iter().enumerate() {
        match kind {
            SubLayerKind::Attention => backend.attention(layer, &attention).expect("attends"),
            SubLayerKind::DenseFeedForward => backend.feed_forward(layer, &rows).expect("feeds"),
            SubLayerKind::Experts { top_k, .. } => {
                let mut chosen = Vec::new();
                backend.gate(layer, &rows, &mut chosen).expect("gates");
                let slots = rows.iter().flat_map(|row| (0..top_k).map(move |slot| (*row, slot)));
                let mut parts: Vec<_> =
                    slots.zip(chosen).map(|((row, slot), expert)| PartWork { row, slot, expert }).collect();
                parts.sort_by_key(|part| part.expert);
                backend.experts(layer, &parts).expect("experts");
                backend.join(layer, &rows).expect("joins");
            }
        }
    }
    let mut logits = Vec::new();
    backend.logits(&rows, &mut logits).expect("logits");
    logits.chunks_exact(backend.layout().vocabulary).map(<[f32]>::to_vec).collect()
}

/// Norm of the difference over the norm of the second, and largest difference over the largest number of the second.
pub(super) fn apart(found: &[f32], expected: &[f32]) -> (f64, f64) {
    assert_eq!(found.len(), expected.len());
    let pairs = || found.iter().zip(expected).map(|(a, b)| (f64::from(*a), f64::from(*b)));
    let norm = |numbers: &mut dyn Iterator<Item = f64>| numbers.map(|x| x * x).sum::<f64>().sqrt();
    let largest = |numbers: &mut dyn Iterator<Item = f64>| numbers.fold(0.0, |most, x| x.abs().max(most));
    let norms = norm(&mut pairs().map(|(a, b)| a - b)) / norm(&mut pairs().map(|(_, b)| b));
    (norms, largest(&mut pairs().map(|(a, b)| a - b)) / largest(&mut pairs().map(|(_, b)| b)))
}
