use super::{BLOCK_TOKENS, Element, PARTITION};
use crate::simd::{LANES, Simd};

/// `scores[t][token] = q[t] . k[token]` for the tokens of some blocks, at most a partition of them; each a sequential sum over
/// `head_dim`, lanes being tokens.
///
/// `q` is `[head_dim][T]`, `keys` the blocks' keys, `scores` `[T][PARTITION]`.
///
/// # Safety
/// `q` and `scores` have that size, and each of `keys` points to `[head_dim][BLOCK_TOKENS]` numbers.
#[inline(always)]
pub unsafe fn scores<S: Simd, E: Element, const T: usize>(
    simd: S,
    q: *const f32,
    head_dim: usize,
    keys: &[*const E],
    scores: *mut f32,
) {
    let columns = keys.len() * BLOCK_TOKENS / LANES;
    let mut column = 0;
    // The wider, the fewer loads of q and the more independent sums; a score's own operations are the same.
    // SAFETY: columns are within the blocks.
    unsafe {
        while 8 * T <= S::ACCUMULATORS && column + 8 <= columns {
            strip::<S, E, T, 8>(simd, q, head_dim, keys, column, scores);
            column += 8;
        }
        while 4 * T <= S::ACCUMULATORS && column + 4 <= columns {
            strip::<S, E, T, 4>(simd, q, head_dim, keys, column, scores);
            column += 4;
        }
        while 2 * T <= S::ACCUMULATORS && column + 2 <= columns {
            strip::<S, E, T, 2>(simd, q, head_dim, keys, column, scores);
            column += 2;
        }
        while column < columns {
            strip::<S, E, T, 1>(simd, q, head_dim, keys, column, scores);
            column += 1;
        }
    }
}

/// `W` vectors of scores from `column` on.
#[inline(always)]
unsafe fn strip<S: Simd, E: Element, const T: usize, const W: usize>(
    simd: S,
    q: *const f32,
    head_dim: usize,
    keys: &[*const E],
    column: usize,
    scores: *mut f32,
) {
    const PER_BLOCK: usize = BLOCK_TOKENS / LANES;
    // SAFETY: the caller's promises; a block has PER_BLOCK columns.
    unsafe {
        let keys: [*const E; W] = std::array::from_fn(|w| {
            let column = column + w;
            keys[column / PER_BLOCK].add(column % PER_BLOCK * LANES)
        });
        let mut sums = [[simd.splat(0.0); W]; T];
        for dim in 0..head_dim {
            let key: [S::Vector; W] = std::array::from_fn(|w| E::load(simd, keys[w].add(dim * BLOCK_TOKENS)));
            for (t, sums) in sums.iter_mut().enumerate() {
                let q = simd.splat(*q.add(dim * T + t));
                for (sum, key) in sums.iter_mut().zip(key) {
                    *sum = simd.mul_add(q, key, *sum);
                }
            }
        }
        for (t, sums) in sums.iter().enumerate() {
            for (w, sum) in sums.iter().enumerate() {
                simd.store(scores.add(t * PARTITION + (column + w) * LANES), *sum);
            }
        }
    }
}
