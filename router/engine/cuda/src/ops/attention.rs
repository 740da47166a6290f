use half::{bf16, f16};

use super::{Kernel, Module, grid, int, launch, module, room};
use crate::{BLOCK_TOKENS, CHUNK_TOKENS, CudaError, Device, View};

pub(super) fn kernels() -> Module {
    let mut module = module(
        "attention.cu",
        include_str!("../kernels/attention.cu"),
        &["attention_decode_32", "attention_decode_64", "attention_decode_128", "attention_merge"],
    );
    let prefill = PREFILL.into_iter().zip([32, 64, 128]);
    module.kernels.extend(prefill.map(|(name, head_dim)| Kernel {
        name,
        symbol: name,
        shared: prefill_shared(head_dim),
    }));
    module
}

const PREFILL: [&str; 3] = ["attention_prefill_32", "attention_prefill_64", "attention_prefill_128"];
/// Warps of a block, and chunks of keys and values in its memory.
const PREFILL_WARPS: usize = 8;
const PREFILL_STAGES: usize = 3;

const fn prefill_shared(head_dim: usize) -> u32 {
    (PREFILL_STAGES * 2 * CHUNK_TOKENS * head_dim * 2) as u32
}

/// Tokens `first .. first + count` of one sequence, in order of position: a block's share of prefill. `count` is at least 1 and at most
/// [`PrefillTile::most`].
#[derive(Debug, Clone, Copy)]
pub struct PrefillTile {
    pub first: u32,
    pub count: u32,
}

impl PrefillTile {
    /// Tokens of a tile with so many query heads for each KV head.
    #[must_use]
    pub const fn most(heads_per_kv_head: usize) -> usize {
        PREFILL_WARPS * (16 / heads_per_kv_head)
    }

    /// As the kernel reads it.
    #[must_use]
    pub const fn raw(self) -> [u32; 4] {
        [self.first, self.count, 0, 0]
    }
}

/// Attention of some tokens over the KV of their sequences. What it reads of KV is not checked against its size here: block tables are
/// the caller's promise.
#[derive(Debug, Clone, Copy)]
pub struct Attention<'a> {
    /// [tokens, heads, head_dim], scaled by `log2(e) / sqrt(head_dim)`.
    pub q: View<'a, f16>,
    /// [blocks, kv_heads, 32 tokens, head_dim]
    pub keys: View<'a, f16>,
    /// [blocks, kv_heads, head_dim, 32 tokens]
    pub values: View<'a, f16>,
    /// -1: no token.
    pub positions: View<'a, i32>,
    /// Where a token's block table begins in `tables`.
    pub table_of: View<'a, u32>,
    pub tables: View<'a, u32>,
    /// [tokens, heads, head_dim]
    pub out: View<'a, bf16>,
    pub heads: usize,
    pub kv_heads: usize,
    pub head_dim: usize,
    pub tokens: usize,
}

#[repr(C)]
#[derive(Debug, Default)]
struct Raw {
    q: u64,
    keys: u64,
    values: u64,
    positions: u64,
    table_of: u64,
    tables: u64,
    tiles: u64,
    parts: u64,
    part_sums: u64,
    out: u64,
    heads: i32,
    kv_heads: i32,
    chunks: i32,
}

impl Attention<'_> {
    fn raw(&self) -> Result<Raw, CudaError> {
        let Self { heads, kv_heads, head_dim, tokens, .. } = *self;
        if kv_heads == 0 || !heads.is_multiple_of(kv_heads) || heads / kv_heads > 16 {
            return Err(CudaError::Shape(format!("{heads} heads over {kv_heads} KV heads; at most 16 to 1")));
        }
        room("queries", self.q, tokens * heads * head_dim)?;
        room("the outcome of attention", self.out, tokens * heads * head_dim)?;
        room("positions", self.positions, tokens)?;
        room("table starts", self.table_of, tokens)?;
        room("keys", self.keys, kv_heads * head_dim * BLOCK_TOKENS)?;
        room("values", self.values, self.keys.len())?;
        Ok(Raw {
            q: self.q.address(),
            keys: self.keys.address(),
            values: self.values.address(),
            positions: self.positions.address(),
            table_of: self.table_of.address(),
            tables: self.tables.address(),
            out: self.out.address(),
            heads: int(heads),
            kv_heads: int(kv_heads),
            ..Raw::default()
        })
    }

    fn kernel(&self, of: [&'static str; 3]) -> Result<&'static str, CudaError> {
        match self.head_dim {
            32 => Ok(of[0]),
            64 => Ok(of[1]),
            128 => Ok(of[2]),
            other => Err(CudaError::Shape(format!("heads of {other} dimensions: 32, 64 or 128"))),
        }
    }
}

/// Every token by itself, chunks of its context side by side. `chunks`: the most of any token, `parts`: [tokens, heads, chunks, head_dim],
/// `part_sums`: [tokens, heads, chunks].
///
/// # Errors
/// Shapes do not fit, or a launch failed.
pub fn attention_decode(
    device: &Device,
    attention: &Attention<'_>,
    chunks: usize,
    parts: View<'_, f32>,
    part_sums: View<'_, [f32; 2]>,
) -> Result<(), CudaError> {
    let Attention { heads, kv_heads, head_dim, tokens, .. } = *attention;
    room("parts of attention", parts, tokens * heads * chunks * head_dim)?;
    room("sums of attention", part_sums, tokens * heads * chunks)?;
    let raw = Raw {
        parts: parts.address(),
        part_sums: part_sums.address(),
        chunks: int(chunks),
        ..attention.raw()?
    };
    let kernel = attention.kernel(["attention_decode_32", "attention_decode_64", "attention_decode_128"])?;
    launch!(device, kernel, (grid(chunks.div_ceil(4)), grid(kv_heads), grid(tokens)), 128, 0, raw)?;
    launch!(device, "attention_merge", (grid(heads), grid(tokens), 1), grid(head_dim), 0, raw)
}

/// Several tokens of a sequence together. The same results as [`attention_decode`], bit for bit.
///
/// # Errors
/// Shapes do not fit, or the launch failed.
pub fn attention_prefill(
    device: &Device,
    attention: &Attention<'_>,
    tiles: View<'_, [u32; 4]>,
    count: usize,
) -> Result<(), CudaError> {
    room("tiles of attention", tiles, count)?;
    let raw = Raw { tiles: tiles.address(), ..attention.raw()? };
    let kernel = attention.kernel(PREFILL)?;
    let (blocks, threads) = ((grid(attention.kv_heads), grid(count), 1), 32 * PREFILL_WARPS as u32);
    launch!(device, kernel, blocks, threads, prefill_shared(attention.head_dim), raw)
}

const _: () = assert!(CHUNK_TOKENS == 2 * BLOCK_TOKENS, "the kernel reads two blocks a chunk");
