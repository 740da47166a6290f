use std::ops::Range;

use half::{
    f16,
    slice::{HalfBitsSliceExt, HalfFloatSliceExt},
};
use thiserror::Error;

use crate::{
    pool::{Pool, share},
    rows::Shared,
    simd::LANES,
};

/// Tokens of a block.
pub const BLOCK_TOKENS: usize = 32;

/// Numbers of keys from which on a run is shared out to all threads.
const WORTH_SHARING: usize = 8 * 1024;

/// Blocks begin at multiples of a cache line.
const ALIGNMENT: usize = 64;

/// How keys and values are stored. Sums are f32 either way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KvFormat {
    F32,
    /// IEEE half precision, rounded to nearest even; half the memory and half the reads.
    F16,
}

impl KvFormat {
    fn number_bytes(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::F16 => 2,
        }
    }
}

#[derive(Debug, Error, PartialEq, Eq)]
pub enum KvCacheError {
    #[error("head_dim {0} is not a multiple of 8")]
    HeadDim(usize),
    #[error("a KV cache of {layers} layers, {blocks} blocks, {kv_heads} heads of {head_dim} has no size")]
    Size { layers: usize, blocks: usize, kv_heads: usize, head_dim: usize },
    #[error("{0} bytes for the KV cache cannot be had")]
    Memory(usize),
}

/// Keys and values of all layers in blocks of [`BLOCK_TOKENS`] tokens. Which sequence owns a block is the scheduler's to know.
///
/// Within a block each KV head has its keys transposed, `[head_dim][BLOCK_TOKENS]`, so that the lanes of a vector are tokens
/// and no product of query and key needs a sum across lanes; then its values, `[BLOCK_TOKENS][head_dim]`, rows padded with
/// zeros to whole vectors.
#[derive(Debug)]
pub struct KvCache {
    numbers: Numbers,
    /// Numbers before the first aligned one.
    skip: usize,
    shape: Shape,
}

#[derive(Debug)]
enum Numbers {
    F32(Vec<f32>),
    F16(Vec<u16>),
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Shape {
    pub layers: usize,
    pub blocks: usize,
    pub kv_heads: usize,
    pub head_dim: usize,
}

impl Shape {
    /// Length of a value row.
    pub fn padded(self) -> usize {
        self.head_dim.next_multiple_of(LANES)
    }

    /// Numbers of one head in one block.
    pub fn head_stride(self) -> usize {
        BLOCK_TOKENS * (self.head_dim + self.padded())
    }

    fn checked_numbers(self) -> Option<usize> {
        let padded = self.head_dim.checked_next_multiple_of(LANES)?;
        let head = self.head_dim.checked_add(padded)?.checked_mul(BLOCK_TOKENS)?;
        head.checked_mul(self.kv_heads)?.checked_mul(self.blocks)?.checked_mul(self.layers)
    }

    /// Where a head's keys begin. Its values begin `BLOCK_TOKENS * head_dim` later.
    fn place(self, layer: usize, block: u32, kv_head: usize) -> usize {
        ((layer * self.blocks + block as usize) * self.kv_heads + kv_head) * self.head_stride()
    }
}

impl KvCache {
    /// All zeros. The system gives the memory page by page when it is first written.
    ///
    /// # Errors
    /// `head_dim` is not a multiple of 8, a count is 0, or there is no such memory.
    pub fn new(
        format: KvFormat,
        layers: usize,
        blocks: usize,
        kv_heads: usize,
        head_dim: usize,
    ) -> Result<Self, KvCacheError> {
        if !head_dim.is_multiple_of(8) {
            return Err(KvCacheError::HeadDim(head_dim));
        }
        let shape = Shape { layers, blocks, kv_heads, head_dim };
        let bytes = Self::checked_bytes(format, shape)
            .filter(|bytes| *bytes > ALIGNMENT)
            .ok_or(KvCacheError::Size { layers, blocks, kv_heads, head_dim })?;
        if isize::try_from(bytes).is_err() {
            return Err(KvCacheError::Memory(bytes));
        }
        let count = bytes / format.number_bytes();
        let (numbers, skip) = match format {
            KvFormat::F32 => {
                let numbers = vec![0.0_f32; count];
                let skip = numbers.as_ptr().align_offset(ALIGNMENT);
                (Numbers::F32(numbers), skip)
            }
            KvFormat::F16 => {
                let numbers = vec![0_u16; count];
                let skip = numbers.as_ptr().align_offset(ALIGNMENT);
                (Numbers::F16(numbers), skip)
            }
        };
        // `align_offset` may decline; alignment is for speed only.
        let skip = if skip < ALIGNMENT { skip } else { 0 };
        Ok(Self { numbers, skip, shape })
    }

    /// Memory of such a cache once all of it is used.
    pub fn bytes(format: KvFormat, layers: usize, blocks: usize, kv_heads: usize, head_dim: usize) -> usize {
        let shape = Shape { layers, blocks, kv_heads, head_dim };
        Self::checked_bytes(format, shape).unwrap_or(usize::MAX)
    }

    fn checked_bytes(format: KvFormat, shape: Shape) -> Option<usize> {
        shape.checked_numbers()?.checked_mul(format.number_bytes())?.checked_add(ALIGNMENT)
    }

    pub fn format(&self) -> KvFormat {
        match self.numbers {
            Numbers::F32(_) => KvFormat::F32,
            Numbers::F16(_) => KvFormat::F16,
        }
    }

    pub fn blocks(&self) -> usize {
        self.shape.blocks
    }

    /// Stores a token's keys and values, `[kv_heads, head_dim]` each, as the `offset`-th of a block.
    ///
    /// # Panics
    /// There is no such layer, block or offset, or a length is wrong.
    pub fn append(&mut self, layer: usize, block: u32, offset: usize, k: &[f32], v: &[f32]) {
        assert!(k.len() == self.shape.kv_heads * self.shape.head_dim, "keys of one token");
        self.append_with(None, layer, &[block], offset, k, v);
    }

    /// Stores keys and values, `[tokens, kv_heads, head_dim]` each, of tokens at `first` and on of the sequence that has
    /// `blocks`: a prompt's faster than token by token, as a head's block stays in the first-level cache.
    ///
    /// # Panics
    /// There is no such layer or block, `blocks` are too few, or a length is wrong.
    pub fn append_run(
        &mut self,
        pool: &Pool,
        layer: usize,
        blocks: &[u32],
        first: usize,
        k: &[f32],
        v: &[f32],
    ) {
        let pool = (k.len() >= WORTH_SHARING).then_some(pool);
        self.append_with(pool, layer, blocks, first, k, v);
    }

    fn append_with(
        &mut self,
        pool: Option<&Pool>,
        layer: usize,
        blocks: &[u32],
        first: usize,
        k: &[f32],
        v: &[f32],
    ) {
        let width = self.shape.kv_heads * self.shape.head_dim;
        assert!(k.len().is_multiple_of(width) && v.len() == k.len(), "k or v is not rows of {width}");
        assert!(layer < self.shape.layers, "layer {layer} of {}", self.shape.layers);
        assert!(first + k.len() / width <= blocks.len() * BLOCK_TOKENS, "more tokens than the blocks hold");
        assert!(blocks.iter().all(|block| (*block as usize) < self.shape.blocks), "no such block");
        let range = self.layer_range(layer);
        match &mut self.numbers {
            Numbers::F32(numbers) => scatter(pool, self.shape, blocks, first, k, v, &mut numbers[range]),
            Numbers::F16(numbers) => {
                let [k, v] = [k, v].map(|numbers| {
                    let mut halves = vec![0_u16; numbers.len()];
                    halves.reinterpret_cast_mut::<f16>().convert_from_f32_slice(numbers);
                    halves
                });
                scatter(pool, self.shape, blocks, first, &k, &v, &mut numbers[range]);
            }
        }
    }

    fn layer_range(&self, layer: usize) -> Range<usize> {
        let start = self.skip + self.shape.place(layer, 0, 0);
        start..start + self.shape.blocks * self.shape.kv_heads * self.shape.head_stride()
    }

    pub(super) fn shape(&self) -> Shape {
        self.shape
    }

    /// The numbers of a layer: `[blocks, kv_heads, head_stride]`.
    pub(super) fn layer(&self, layer: usize) -> LayerNumbers<'_> {
        let range = self.layer_range(layer);
        match &self.numbers {
            Numbers::F32(numbers) => LayerNumbers::F32(&numbers[range]),
            Numbers::F16(numbers) => LayerNumbers::F16(&numbers[range]),
        }
    }
}

pub(super) enum LayerNumbers<'a> {
    F32(&'a [f32]),
    F16(&'a [u16]),
}

/// Writes tokens to their places in a layer, head after head, heads shared out to the threads.
fn scatter<T: Copy + Send + Sync>(
    pool: Option<&Pool>,
    shape: Shape,
    blocks: &[u32],
    first: usize,
    k: &[T],
    v: &[T],
    layer: &mut [T],
) {
    let Shape { kv_heads, head_dim, .. } = shape;
    let width = kv_heads * head_dim;
    let layer = Shared::new(layer);
    let job = |heads: Range<usize>| {
        for head in heads {
            let rows = k.chunks_exact(width).zip(v.chunks_exact(width));
            for (position, (k, v)) in (first..).zip(rows) {
                let (block, offset) = (blocks[position / BLOCK_TOKENS], position % BLOCK_TOKENS);
                let start = shape.place(0, block, head);
                // SAFETY: each head is written by one thread, which holds one part at a time; the layer is borrowed for the
                // whole call.
                let place = unsafe { layer.part(start..start + shape.head_stride()) };
                let (keys, values) = place.split_at_mut(BLOCK_TOKENS * head_dim);
                let own = head * head_dim..(head + 1) * head_dim;
                for (lanes, k) in keys.chunks_exact_mut(BLOCK_TOKENS).zip(&k[own.clone()]) {
                    lanes[offset] = *k;
                }
                values[offset * shape.padded()..][..head_dim].copy_from_slice(&v[own]);
            }
        }
    };
    match pool {
        Some(pool) => pool.run(&|index| job(share(kv_heads, 1, index, pool.threads()))),
        None => job(0..kv_heads),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn its_size_is_what_was_predicted() {
        assert_eq!(KvCache::bytes(KvFormat::F32, 2, 3, 4, 64), 2 * 3 * 4 * 32 * 128 * 4 + ALIGNMENT);
        assert_eq!(KvCache::bytes(KvFormat::F16, 2, 3, 4, 64), 2 * 3 * 4 * 32 * 128 * 2 + ALIGNMENT);
        // A row of 8 values takes a vector.
        assert_eq!(KvCache::bytes(KvFormat::F32, 1, 1, 1, 8), 32 * (8 + 16) * 4 + ALIGNMENT);
    }

    #[test]
    fn impossible_sizes_are_refused() {
        let refused =
            |blocks, kv_heads, head_dim| KvCache::new(KvFormat::F32, 1, blocks, kv_heads, head_dim).err();
        assert_eq!(refused(1, 1, 12), Some(KvCacheError::HeadDim(12)));
        assert!(matches!(refused(1, 0, 8), Some(KvCacheError::Size { .. })));
        assert!(matches!(refused(0, 1, 8), Some(KvCacheError::Size { .. })));
        assert!(matches!(refused(usize::MAX / 2, 1, 8), Some(KvCacheError::Size { .. })));
    }

    #[test]
    fn halves_round_to_nearest_even() {
        let mut cache = KvCache::new(KvFormat::F16, 1, 1, 1, 8).unwrap();
        // 1 + 2^-11 lies between 1 and 1 + 2^-10, 1 + 3 * 2^-11 between 1 + 2^-10 and 1 + 2^-9.
        let k =
            [1.0 + 2.0_f32.powi(-11), 1.0 + 3.0 * 2.0_f32.powi(-11), 1e6, -0.0, 0.1, 6e-8, 1e-9, 65_504.0];
        cache.append(0, 0, 5, &k, &k);
        let LayerNumbers::F16(numbers) = cache.layer(0) else { panic!("not of halves") };
        let expected = [0x3c00, 0x3c02, 0x7c00, 0x8000, 0x2e66, 0x0001, 0x0000, 0x7bff];
        for (lane, expected) in expected.into_iter().enumerate() {
            assert_eq!(numbers[lane * BLOCK_TOKENS + 5], expected, "key {lane}");
            assert_eq!(numbers[8 * BLOCK_TOKENS + 5 * LANES + lane], expected, "value {lane}");
        }
    }
}
