use half::{bf16, f16};

use super::{Kernel, Module, grid, int, launch, module, room};
use crate::{BLOCK_TOKENS, CHUNK_TOKENS, CudaError, Device, View};

const TEXT: &str = include_str!("../kernels/attention.cu");
const ON_HOPPER: &str = concat!(
    include_str!("../kernels/hopper.cuh"),
    include_str!("../kernels/attention.cu"),
    include_str!("../kernels/attention_hopper.cu")
);

/// `hopper`: with the kernels that only it runs.
pub(super) fn kernels(hopper: bool) -> Module {
    const DECODE: [&str; 4] =
        ["attention_decode_32", "attention_decode_64", "attention_decode_128", "attention_merge"];
    let mut module = module("attention.cu", if hopper { ON_HOPPER } else { TEXT }, &DECODE);
    let kernels = PREFILL.iter().chain(PREFILL_ON_HOPPER.iter().filter(|_| hopper));
    module.kernels.extend(kernels.map(|(_, kernel)| *kernel));
    module
}

/// Dimensions of a head, and their kernel.
const PREFILL: [(usize, Kernel); 3] = [
    (32, prefill("attention_prefill_32", 32)),
    (64, prefill("attention_prefill_64", 64)),
    (128, prefill("attention_prefill_128", 128)),
];
const PREFILL_ON_HOPPER: [(usize, Kernel); 2] = [
    (64, prefill_on_hopper("attention_prefill_hopper_64", 64)),
    (128, prefill_on_hopper("attention_prefill_hopper_128", 128)),
];
/// Warps of a block that have rows, and chunks of keys and values in its memory.
const PREFILL_WARPS: usize = 8;
const PREFILL_STAGES: usize = 3;
const HOPPER_STAGES: usize = 4;
/// On Hopper one warpgroup more fetches.
const HOPPER_THREADS: u32 = 32 * PREFILL_WARPS as u32 + 128;

const fn chunk_bytes(head_dim: usize) -> usize {
    2 * CHUNK_TOKENS * head_dim * 2
}

const fn prefill(name: &'static str, head_dim: usize) -> Kernel {
    Kernel { name, symbol: name, shared: (PREFILL_STAGES * chunk_bytes(head_dim)) as u32 }
}

/// Behind a stage's keys and values lie eight rows of 64 ones, behind the stages the queries, and two barriers of 8 bytes a stage.
const fn prefill_on_hopper(name: &'static str, head_dim: usize) -> Kernel {
    let queries = PREFILL_WARPS * 16 * head_dim * 2;
    Kernel {
        name,
        symbol: name,
        shared: (HOPPER_STAGES * (chunk_bytes(head_dim) + 1024 + 16) + queries) as u32,
    }
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
            _ => Err(self.no_kernel()),
        }
    }

    fn no_kernel(&self) -> CudaError {
        CudaError::Shape(format!("heads of {} dimensions: 32, 64 or 128", self.head_dim))
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
    let on_hopper = PREFILL_ON_HOPPER.iter().filter(|_| device.is_hopper());
    let mut kernels = on_hopper
        .map(|kernel| (kernel, HOPPER_THREADS))
        .chain(PREFILL.iter().map(|kernel| (kernel, 32 * PREFILL_WARPS as u32)));
    let ((_, kernel), threads) = kernels
        .find(|((head_dim, _), _)| *head_dim == attention.head_dim)
        .ok_or_else(|| attention.no_kernel())?;
    let blocks = (grid(attention.kv_heads), grid(count), 1);
    launch!(device, kernel.name, blocks, threads, kernel.shared, raw)
}

const _: () = assert!(CHUNK_TOKENS == 2 * BLOCK_TOKENS, "the kernel reads two blocks a chunk");
