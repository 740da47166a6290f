use std::sync::Arc;

use half::{bf16, f16};
use reprise_cuda::{
    BLOCK_TOKENS, Buffer, CHUNK_TOKENS, CudaError, Device, Pinned, View,
    ops::{TileSize, Tiles},
};
use reprise_scheduler::ModelLayout;

use super::{
    CudaOptions,
    model::{Layer, Mlp, Model},
};

/// Numbers of partial attention at once; more tokens are computed in turns.
const MOST_PARTS: usize = 64 << 20;

/// KV, and what launches write for each other. Allocated once.
#[derive(Debug)]
pub(super) struct Work {
    /// Of each attention: keys [blocks, kv_heads, 32, head_dim] and values [blocks, kv_heads, head_dim, 32].
    pub(super) kv: Vec<(Buffer<f16>, Buffer<f16>)>,
    /// [rows, hidden]
    pub(super) x: Buffer<f32>,
    /// [rows, hidden]
    pub(super) normed: Buffer<bf16>,
    /// [rows, (heads + 2 kv_heads) head_dim]
    pub(super) qkv: Buffer<f16>,
    /// [rows, heads * head_dim]
    pub(super) q: Buffer<f16>,
    /// [rows, heads * head_dim]
    pub(super) attended: Buffer<bf16>,
    /// [rows, heads, chunks, head_dim], for as many rows as there is room for.
    pub(super) parts_of_attention: Buffer<f32>,
    /// [rows, heads, chunks]
    pub(super) sums_of_attention: Buffer<[f32; 2]>,
    /// [rows, experts]
    pub(super) gates: Buffer<f32>,
    /// [rows, top_k]
    pub(super) chosen: Buffer<u32>,
    pub(super) weights: Buffer<f32>,
    pub(super) part_of: Buffer<u32>,
    pub(super) row_of: Buffer<u32>,
    tiles: Buffer<[u32; 4]>,
    tile_count: Buffer<u32>,
    /// [rows, width] or [rows * top_k, width]
    pub(super) middle: Buffer<bf16>,
    /// Twice as much, for a gate and an up that are computed apart.
    apart: Buffer<f32>,
    /// [rows * top_k, hidden]
    pub(super) parts: Buffer<bf16>,
    /// [rows, hidden]
    pub(super) shared_part: Buffer<f32>,
    pub(super) shared_gate: Buffer<f32>,
    /// [sequences, hidden]
    pub(super) head_normed: Buffer<bf16>,
    /// [sequences, vocabulary]
    pub(super) logits: Buffer<f32>,
    pub(super) choices: Buffer<[u32; 4]>,
    pub(super) chosen_here: Pinned<[u32; 4]>,
    pub(super) logits_here: Pinned<f32>,
}

/// Lengths of the buffers of [`Work`].
#[derive(Debug, Clone, Copy)]
pub(super) struct Lengths {
    pub(super) kv_of_attention: usize,
    rows: usize,
    hidden: usize,
    qkv: usize,
    q: usize,
    attention_rows: usize,
    heads: usize,
    chunks: usize,
    head_dim: usize,
    gates: usize,
    parts: usize,
    tiles: usize,
    middle: usize,
    apart: usize,
    shared: bool,
    sequences: usize,
    vocabulary: usize,
}

/// What [`Lengths`] needs of a model's layers.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Widths {
    /// Of dense feed-forwards and shared experts.
    pub(super) dense: usize,
    /// Of those whose gate and up are computed apart.
    pub(super) apart: usize,
    /// Of an expert.
    pub(super) expert: usize,
    pub(super) experts: usize,
    pub(super) top_k: usize,
    pub(super) shared: bool,
}

impl Lengths {
    pub(super) fn new(
        sizes: &crate::graph::Sizes,
        widths: Widths,
        layout: &ModelLayout,
        options: &CudaOptions,
    ) -> Self {
        let rows = options.rows;
        let parts = rows * widths.top_k;
        let chunks = layout.context_length.div_ceil(CHUNK_TOKENS).next_power_of_two().max(4);
        let of_row = sizes.heads * chunks * sizes.head_dim;
        Self {
            kv_of_attention: options.kv_blocks * sizes.kv_width() * BLOCK_TOKENS,
            rows,
            hidden: sizes.hidden,
            qkv: rows * (sizes.q_width() + 2 * sizes.kv_width()),
            q: rows * sizes.q_width(),
            attention_rows: (MOST_PARTS / of_row).clamp(1, rows),
            heads: sizes.heads,
            chunks,
            head_dim: sizes.head_dim,
            gates: rows * widths.experts,
            parts,
            tiles: if parts > 0 { TileSize::Few.most(parts, widths.experts) } else { 0 },
            middle: (rows * widths.dense).max(parts * widths.expert),
            apart: 2 * rows * widths.apart,
            shared: widths.shared,
            sequences: options.sequences,
            vocabulary: sizes.vocabulary,
        }
    }

    /// Hidden states and results of experts, and buffers of launches.
    pub(super) const fn bytes(&self) -> (usize, usize) {
        let states = self.rows * self.hidden;
        let shared = if self.shared { states + self.rows } else { 0 };
        let arena = 4 * (states + shared) + 2 * self.parts * self.hidden;
        let attention = self.attention_rows * self.heads * self.chunks;
        let numbers = attention * (self.head_dim + 2) + self.gates + self.apart;
        let routing = 4 * self.parts + 4 * self.tiles;
        let halves = states + self.qkv + 2 * self.q + self.middle + self.sequences * self.hidden;
        (arena, 4 * (numbers + routing + self.sequences * (self.vocabulary + 4)) + 2 * halves)
    }
}

impl Work {
    pub(super) fn new(
        device: &Arc<Device>,
        model: &Model,
        layout: &ModelLayout,
        options: &CudaOptions,
    ) -> Result<Self, CudaError> {
        let lengths = Lengths::new(&model.sizes, widths(model), layout, options);
        let Lengths { rows, hidden, parts, sequences, vocabulary, .. } = lengths;
        let attention = lengths.attention_rows * lengths.heads * lengths.chunks;
        let kv = || {
            let half = || Buffer::new(device, lengths.kv_of_attention);
            Ok((half()?, half()?))
        };
        let attentions = model.layers.iter().filter(|layer| matches!(layer, Layer::Attention(_)));
        let shared = if lengths.shared { rows } else { 0 };
        Ok(Self {
            kv: attentions.map(|_| kv()).collect::<Result<_, CudaError>>()?,
            x: Buffer::new(device, rows * hidden)?,
            normed: Buffer::new(device, rows * hidden)?,
            qkv: Buffer::new(device, lengths.qkv)?,
            q: Buffer::new(device, lengths.q)?,
            attended: Buffer::new(device, lengths.q)?,
            parts_of_attention: Buffer::new(device, attention * lengths.head_dim)?,
            sums_of_attention: Buffer::new(device, attention)?,
            gates: Buffer::new(device, lengths.gates)?,
            chosen: Buffer::new(device, parts)?,
            weights: Buffer::new(device, parts)?,
            part_of: Buffer::new(device, parts)?,
            row_of: Buffer::new(device, parts)?,
            tiles: Buffer::new(device, lengths.tiles)?,
            tile_count: Buffer::new(device, 1)?,
            middle: Buffer::new(device, lengths.middle)?,
            apart: Buffer::new(device, lengths.apart)?,
            parts: Buffer::new(device, parts * hidden)?,
            shared_part: Buffer::new(device, shared * hidden)?,
            shared_gate: Buffer::new(device, shared)?,
            head_normed: Buffer::new(device, sequences * hidden)?,
            logits: Buffer::new(device, sequences * vocabulary)?,
            choices: Buffer::new(device, sequences)?,
            chosen_here: Pinned::new(device, sequences)?,
            logits_here: Pinned::new(device, vocabulary)?,
        })
    }

    pub(super) fn apart(&self, count: usize) -> Result<(View<'_, f32>, View<'_, f32>), CudaError> {
        Ok((self.apart.range(0..count)?, self.apart.range(count..2 * count)?))
    }

    /// For the parts of so many rows.
    pub(super) fn tiles(&self, rows: usize, top_k: usize, experts: usize) -> Tiles<'_> {
        let size = TileSize::for_groups(rows * top_k, experts);
        let most = size.most(rows * top_k, experts);
        Tiles { size, tiles: self.tiles.view(), count: self.tile_count.view(), most }
    }
}

fn widths(model: &Model) -> Widths {
    let mut widths = Widths::default();
    let mut dense = |mlp: &Mlp| {
        widths.dense = widths.dense.max(mlp.width());
        let alike = mlp.gate.matrix.form() == mlp.up.matrix.form() && mlp.width().is_multiple_of(8);
        if !alike || mlp.gate.bias.is_some() || mlp.up.bias.is_some() {
            widths.apart = widths.apart.max(mlp.width());
        }
    };
    for layer in &model.layers {
        match layer {
            Layer::Attention(_) => {}
            Layer::FeedForward(layer) => dense(&layer.mlp),
            Layer::Experts(layer) => layer.shared.iter().for_each(|(_, mlp)| dense(mlp)),
        }
    }
    for layer in model.experts() {
        widths.expert = widths.expert.max(layer.gate.rows());
        widths.experts = widths.experts.max(layer.experts);
        widths.top_k = widths.top_k.max(layer.top_k);
        widths.shared |= layer.shared.is_some();
    }
    widths
}
