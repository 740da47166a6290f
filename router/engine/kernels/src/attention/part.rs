use super::{BLOCK_TOKENS, Element, PARTITION, cache::Shape, plan::Tile, scores::scores, values::values};
use crate::simd::{Kernel, LANES, Simd, exp};

/// One partition's share of an attention: `sum exp(s - largest) v`, not yet divided by `total = sum exp(s - largest)`.
#[derive(Debug, Clone, Copy)]
pub struct Part {
    pub largest: f32,
    pub total: f32,
}

impl Part {
    /// No tokens.
    pub const NONE: Self = Self { largest: f32::NEG_INFINITY, total: 0.0 };

    /// Takes in the next partition: `sums` are this part's, `other_sums` the other's.
    pub fn merge(&mut self, sums: &mut [f32], other: Self, other_sums: &[f32]) {
        if other.total == 0.0 {
            return;
        }
        if self.total == 0.0 {
            *self = other;
            sums.copy_from_slice(other_sums);
            return;
        }
        let largest = self.largest.max(other.largest);
        let (mine, others) = ((self.largest - largest).exp(), (other.largest - largest).exp());
        self.largest = largest;
        self.total = self.total * mine + other.total * others;
        for (sum, other) in sums.iter_mut().zip(other_sums) {
            *sum = *sum * mine + other * others;
        }
    }
}

/// Buffers of one thread.
#[derive(Debug)]
pub struct Scratch {
    q: Vec<f32>,
    scores: Vec<f32>,
}

impl Scratch {
    pub fn new(most: usize, head_dim: usize) -> Self {
        Self { q: vec![0.0; most * head_dim], scores: vec![0.0; most * PARTITION] }
    }
}

/// One partition of the tokens for one tile and one KV head.
pub struct Partition<'a, E> {
    pub shape: Shape,
    /// `[blocks, kv_heads, head_stride]`
    pub layer: &'a [E],
    pub tile: &'a Tile<'a>,
    pub kv_head: usize,
    pub partition: usize,
    /// `[rows, heads, head_dim]`
    pub q: &'a [f32],
    /// Query heads of a KV head.
    pub group: usize,
    pub scale: f32,
    pub scratch: &'a mut Scratch,
    /// Out: one for each pair.
    pub parts: &'a mut [Part],
    /// Out: `[pairs, padded]`.
    pub sums: &'a mut [f32],
}

impl<E: Element> Kernel for Partition<'_, E> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        match self.tile.pairs.len() {
            1 => self.compute::<S, 1>(simd),
            2 => self.compute::<S, 2>(simd),
            3 => self.compute::<S, 3>(simd),
            4 => self.compute::<S, 4>(simd),
            // Levels of fewer registers have tiles of 4 at most.
            5 if S::ACCUMULATORS > 4 => self.compute::<S, 5>(simd),
            6 if S::ACCUMULATORS > 4 => self.compute::<S, 6>(simd),
            7 if S::ACCUMULATORS > 4 => self.compute::<S, 7>(simd),
            8 if S::ACCUMULATORS > 4 => self.compute::<S, 8>(simd),
            pairs => unreachable!("a tile of {pairs} pairs"),
        }
    }
}

impl<E: Element> Partition<'_, E> {
    #[inline(always)]
    fn compute<S: Simd, const T: usize>(mut self, simd: S) {
        let Shape { head_dim, .. } = self.shape;
        let padded = self.shape.padded();
        let begin = self.partition * PARTITION;
        let visible: [usize; T] =
            std::array::from_fn(|t| self.tile.pairs[t].tokens.saturating_sub(begin).min(PARTITION));
        assert!(
            self.scratch.q.len() >= T * head_dim && self.scratch.scores.len() >= T * PARTITION,
            "the scratch is for smaller tiles"
        );
        assert!(self.sums.len() == T * padded && self.parts.len() == T, "room for other pairs");
        self.scale_q::<T>();

        let mut keys = [std::ptr::null(); PARTITION / BLOCK_TOKENS];
        let mut value_rows = keys;
        let used = visible[T - 1].div_ceil(BLOCK_TOKENS);
        let blocks = &self.tile.blocks[begin / BLOCK_TOKENS..][..used];
        for (place, block) in blocks.iter().enumerate() {
            let stride = self.shape.head_stride();
            let start = (*block as usize * self.shape.kv_heads + self.kv_head) * stride;
            let head = &self.layer[start..start + stride];
            keys[place] = head.as_ptr();
            value_rows[place] = head[BLOCK_TOKENS * head_dim..].as_ptr();
        }
        let (q, weights) = (self.scratch.q.as_ptr(), self.scratch.scores.as_mut_ptr());
        let sums = self.sums;
        sums.fill(0.0);
        let sums = sums.as_mut_ptr();
        // SAFETY: the sizes are asserted above; the pointers are to whole blocks of one head.
        unsafe {
            scores::<S, E, T>(simd, q, head_dim, &keys[..used], weights);
            for t in 0..T {
                self.parts[t] = soften(simd, weights.add(t * PARTITION), visible[t]);
            }
            // What all see together; the rest each alone, as a weight of 0 would still take in what is not a number.
            let common = visible[0];
            values::<S, E, T>(simd, weights, 0..common, &value_rows[..used], padded, sums);
            for (t, visible) in visible.into_iter().enumerate() {
                let (weights, sums) = (weights.add(t * PARTITION), sums.add(t * padded));
                if visible > common {
                    values::<S, E, 1>(simd, weights, common..visible, &value_rows[..used], padded, sums);
                }
            }
        }
    }

    /// `[head_dim][T]`, multiplied by the scale.
    #[inline(always)]
    fn scale_q<const T: usize>(&mut self) {
        let head_dim = self.shape.head_dim;
        let heads = self.group * self.shape.kv_heads;
        for (t, pair) in self.tile.pairs.iter().enumerate() {
            let start = (pair.row * heads + self.kv_head * self.group + pair.head) * head_dim;
            for (dim, q) in self.q[start..start + head_dim].iter().enumerate() {
                self.scratch.q[dim * T + t] = q * self.scale;
            }
        }
    }
}

/// Replaces the first `count` scores by `exp(score - largest)`.
///
/// # Safety
/// `scores` has `count` numbers, rounded up to whole vectors.
#[inline(always)]
unsafe fn soften<S: Simd>(simd: S, scores: *mut f32, count: usize) -> Part {
    if count == 0 {
        return Part::NONE;
    }
    let lowest = simd.splat(f32::NEG_INFINITY);
    let mut largest = lowest;
    // SAFETY: the caller's promise.
    unsafe {
        for start in (0..count).step_by(LANES) {
            // Behind the last token there is anything.
            let score = simd.first(count - start, simd.load(scores.add(start)), lowest);
            largest = simd.max(largest, score);
        }
        let largest = simd.largest(largest);
        let mut total = simd.splat(0.0);
        for start in (0..count).step_by(LANES) {
            let score = simd.first(count - start, simd.load(scores.add(start)), lowest);
            let weight = exp(simd, simd.sub(score, simd.splat(largest)));
            total = simd.add(total, weight);
            simd.store(scores.add(start), weight);
        }
        Part { largest, total: simd.sum(total) }
    }
}
