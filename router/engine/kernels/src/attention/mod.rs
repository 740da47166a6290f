//! Attention of query rows over paged keys and values.
//!
//! Tokens are cut into partitions of `PARTITION` by their absolute position. Each partition has a softmax of its own, with
//! its own largest score, and partitions are merged in order (online softmax, Milakov and Gimelshein 2018; partitions as
//! in Flash-Decoding). Within a partition a score is a sequential sum over the head's dimensions and a result a sequential
//! sum over tokens. None of that depends on the other rows of a call, on how a prompt was cut or on the number of threads, so
//! a row's bits do not either; those only decide how rows share loads.
#![expect(unsafe_code, reason = "vector loads and stores; threads write disjoint heads of one slice")]

mod cache;
mod part;
mod plan;
mod scores;
mod values;

use crate::{
    pool::Pool,
    rows::Shared,
    simd::{Level, Simd},
};

pub use cache::{BLOCK_TOKENS, KvCache, KvCacheError, KvFormat};
use cache::{LayerNumbers, Shape};
use part::{Part, Partition, Scratch};
use plan::{MAX_PAIRS, Tile, tiles};

/// Tokens that share one softmax; a whole number of blocks. Long enough that merging costs little, short enough that few
/// heads over a long context keep several threads busy and that its scores stay in the first-level cache.
const PARTITION: usize = 256;

/// Multiplications below which waking another thread takes longer than the work.
const WORTH_SHARING: usize = 200_000;

/// What a row of queries sees.
#[derive(Debug, Clone, Copy)]
pub struct Query<'a> {
    /// Sees the tokens at 0 to `position`, in a causal model its own included.
    pub position: u32,
    /// Its sequence's blocks in order, at least `position / BLOCK_TOKENS + 1` of them.
    pub blocks: &'a [u32],
}

/// `out[m] = softmax(q[m] K^T scale) V` over the tokens that `queries[m]` sees.
///
/// `q` and `out` are `[rows, heads, head_dim]`; query head h reads KV head `h / (heads / kv_heads)`. Neighbouring rows of one
/// sequence, in ascending order, share the reads. Nothing behind a row's position has an influence on it, not even what is
/// not a number.
///
/// # Panics
/// There is no such layer or block, `heads` is not a multiple of the cache's KV heads, or a length is wrong.
#[expect(clippy::too_many_arguments, reason = "an operation on plain arrays")]
pub fn attend(
    pool: &Pool,
    cache: &KvCache,
    layer: usize,
    q: &[f32],
    queries: &[Query<'_>],
    heads: usize,
    scale: f32,
    out: &mut [f32],
) {
    attend_at(Level::best(), pool, cache, layer, q, queries, heads, scale, out);
}

#[expect(clippy::too_many_arguments, reason = "as of `attend`")]
fn attend_at(
    level: Level,
    pool: &Pool,
    cache: &KvCache,
    layer: usize,
    q: &[f32],
    queries: &[Query<'_>],
    heads: usize,
    scale: f32,
    out: &mut [f32],
) {
    let shape = cache.shape();
    assert!(layer < shape.layers, "layer {layer} of {}", shape.layers);
    assert!(
        heads > 0 && heads.is_multiple_of(shape.kv_heads),
        "{heads} heads over {} KV heads",
        shape.kv_heads
    );
    assert!(
        q.len() == queries.len() * heads * shape.head_dim && out.len() == q.len(),
        "q or out has another length"
    );
    for query in queries {
        let used = query.position as usize / BLOCK_TOKENS + 1;
        assert!(query.blocks.len() >= used, "{} blocks for position {}", query.blocks.len(), query.position);
        assert!(query.blocks[..used].iter().all(|block| (*block as usize) < shape.blocks), "no such block");
    }
    let group = heads / shape.kv_heads;
    let tiles = tiles(queries, group, level.accumulators().min(MAX_PAIRS));
    match cache.layer(layer) {
        LayerNumbers::F32(layer) => {
            Call { level, shape, layer, tiles: &tiles, q, group, scale }.run(pool, out);
        }
        LayerNumbers::F16(layer) => {
            Call { level, shape, layer, tiles: &tiles, q, group, scale }.run(pool, out);
        }
    }
}

/// A number of the cache.
trait Element: Copy + Sync {
    /// # Safety
    /// `from` has as many numbers as a vector.
    unsafe fn load<S: Simd>(simd: S, from: *const Self) -> S::Vector;
}

impl Element for f32 {
    #[inline(always)]
    unsafe fn load<S: Simd>(simd: S, from: *const Self) -> S::Vector {
        // SAFETY: the caller's promise.
        unsafe { simd.load(from) }
    }
}

impl Element for u16 {
    #[inline(always)]
    unsafe fn load<S: Simd>(simd: S, from: *const Self) -> S::Vector {
        // SAFETY: the caller's promise.
        unsafe { simd.load_f16(from) }
    }
}

struct Call<'a, E> {
    level: Level,
    shape: Shape,
    layer: &'a [E],
    tiles: &'a [Tile<'a>],
    q: &'a [f32],
    group: usize,
    scale: f32,
}

impl<E: Element> Call<'_, E> {
    fn run(&self, pool: &Pool, out: &mut [f32]) {
        let products: usize = self.tiles.iter().map(|tile| tile.pairs.len() * tile.tokens()).sum();
        let alone =
            pool.threads() == 1 || products * self.shape.head_dim * self.shape.kv_heads < WORTH_SHARING;
        let items = self.tiles.len() * self.shape.kv_heads;
        let longest = self.tiles.iter().map(Tile::partitions).max().unwrap_or(0);
        let out = Shared::new(out);
        if alone {
            let mut work = Work::new(self);
            (0..items).for_each(|item| self.whole(item, &mut work, out));
        } else if longest > 1 && items < 8 * pool.threads() {
            // Few rows over a long context: partitions are shared out too.
            self.split(pool, items, longest, out);
        } else {
            pool.each(items, |_| Work::new(self), |item, work| self.whole(item, work, out));
        }
    }

    /// All partitions of a tile and KV head, in order.
    fn whole(&self, item: usize, work: &mut Work, out: Shared<f32>) {
        let (tile, kv_head) = self.item(item);
        let (pairs, padded) = (tile.pairs.len(), self.shape.padded());
        let mut merged = [Part::NONE; MAX_PAIRS];
        for partition in 0..tile.partitions() {
            let mut parts = [Part::NONE; MAX_PAIRS];
            let sums = &mut work.sums[..pairs * padded];
            self.partition(item, partition, &mut work.scratch, &mut parts[..pairs], sums);
            let sums = work.merged.chunks_exact_mut(padded).zip(work.sums.chunks_exact(padded));
            for ((merged, part), (merged_sums, sums)) in merged.iter_mut().zip(&parts[..pairs]).zip(sums) {
                merged.merge(merged_sums, *part, sums);
            }
        }
        for (pair, (merged, sums)) in
            merged.into_iter().zip(work.merged.chunks_exact(padded)).enumerate().take(pairs)
        {
            self.finish(tile, kv_head, pair, merged, sums, out);
        }
    }

    /// Partitions on all threads, then their merger in order.
    fn split(&self, pool: &Pool, items: usize, longest: usize, out: Shared<f32>) {
        let padded = self.shape.padded();
        let pairs = self.tiles.iter().map(|tile| tile.pairs.len()).max().unwrap_or(0);
        let mut sums = vec![0.0; items * longest * pairs * padded];
        let mut parts = vec![0.0; items * longest * pairs * 2];
        let (shared_sums, shared_parts) = (Shared::new(&mut sums), Shared::new(&mut parts));
        pool.each(
            items * longest,
            |_| Work::new(self),
            |index, work| {
                let (item, partition) = (index / longest, index % longest);
                let (tile, _) = self.item(item);
                if partition >= tile.partitions() {
                    return;
                }
                let count = tile.pairs.len();
                let start = index * pairs;
                let mut found = [Part::NONE; MAX_PAIRS];
                // SAFETY: each index has a range of its own in both, and both outlive `each`.
                let (sums, parts) = unsafe {
                    (
                        shared_sums.part(start * padded..(start + count) * padded),
                        shared_parts.part(start * 2..(start + count) * 2),
                    )
                };
                self.partition(item, partition, &mut work.scratch, &mut found[..count], sums);
                for (place, part) in parts.chunks_exact_mut(2).zip(found) {
                    place.copy_from_slice(&[part.largest, part.total]);
                }
            },
        );
        let mut merged_sums = vec![0.0; padded];
        for item in 0..items {
            let (tile, kv_head) = self.item(item);
            for pair in 0..tile.pairs.len() {
                let mut merged = Part::NONE;
                for partition in 0..tile.partitions() {
                    let place = (item * longest + partition) * pairs + pair;
                    let part = Part { largest: parts[place * 2], total: parts[place * 2 + 1] };
                    merged.merge(&mut merged_sums, part, &sums[place * padded..(place + 1) * padded]);
                }
                self.finish(tile, kv_head, pair, merged, &merged_sums, out);
            }
        }
    }

    /// Tiles of one KV head follow each other, as they read the same numbers.
    fn item(&self, item: usize) -> (&Tile<'_>, usize) {
        (&self.tiles[item % self.tiles.len()], item / self.tiles.len())
    }

    fn partition(
        &self,
        item: usize,
        partition: usize,
        scratch: &mut Scratch,
        parts: &mut [Part],
        sums: &mut [f32],
    ) {
        let (tile, kv_head) = self.item(item);
        let Self { level, shape, layer, q, group, scale, .. } = *self;
        level.run(Partition {
            shape,
            layer,
            tile,
            kv_head,
            partition,
            q,
            group,
            scale,
            scratch,
            parts,
            sums,
        });
    }

    /// Divides by the total and writes a pair's result.
    fn finish(
        &self,
        tile: &Tile<'_>,
        kv_head: usize,
        pair: usize,
        merged: Part,
        sums: &[f32],
        out: Shared<f32>,
    ) {
        let head_dim = self.shape.head_dim;
        let pair = tile.pairs[pair];
        let start = ((pair.row * self.shape.kv_heads + kv_head) * self.group + pair.head) * head_dim;
        // SAFETY: each pair of a row and a head is in one tile, each tile and KV head in one item, and `out` is borrowed
        // for the whole call.
        let out = unsafe { out.part(start..start + head_dim) };
        let factor = 1.0 / merged.total;
        for (out, sum) in out.iter_mut().zip(sums) {
            *out = sum * factor;
        }
    }
}

/// Buffers of one thread for whole items.
struct Work {
    scratch: Scratch,
    sums: Vec<f32>,
    merged: Vec<f32>,
}

impl Work {
    fn new<E>(call: &Call<'_, E>) -> Self {
        let pairs = call.level.accumulators().min(MAX_PAIRS);
        let room = pairs * call.shape.padded();
        Self {
            scratch: Scratch::new(pairs, call.shape.head_dim),
            sums: vec![0.0; room],
            merged: vec![0.0; room],
        }
    }
}

#[cfg(test)]
mod tests;
