use std::ops::Range;

use super::{BLOCK_TOKENS, Element, PARTITION};
use crate::simd::{LANES, Simd};

/// `sums[t] += sum of weights[t][token] * v[token]` over a range of a partition's tokens, one token after the other, lanes
/// being dimensions.
///
/// `weights` is `[T][PARTITION]`, `values` the blocks' values, `sums` `[T][padded]`.
///
/// # Safety
/// `weights` and `sums` have that size, each of `values` points to `[BLOCK_TOKENS][padded]` numbers, and there are blocks
/// for all `tokens`.
#[inline(always)]
pub unsafe fn values<S: Simd, E: Element, const T: usize>(
    simd: S,
    weights: *const f32,
    tokens: Range<usize>,
    values: &[*const E],
    padded: usize,
    sums: *mut f32,
) {
    let columns = padded / LANES;
    let mut column = 0;
    // SAFETY: columns are within the rows.
    unsafe {
        while 8 * T <= S::ACCUMULATORS && column + 8 <= columns {
            strip::<S, E, T, 8>(simd, weights, tokens.clone(), values, padded, column, sums);
            column += 8;
        }
        while 4 * T <= S::ACCUMULATORS && column + 4 <= columns {
            strip::<S, E, T, 4>(simd, weights, tokens.clone(), values, padded, column, sums);
            column += 4;
        }
        while 2 * T <= S::ACCUMULATORS && column + 2 <= columns {
            strip::<S, E, T, 2>(simd, weights, tokens.clone(), values, padded, column, sums);
            column += 2;
        }
        while column < columns {
            strip::<S, E, T, 1>(simd, weights, tokens.clone(), values, padded, column, sums);
            column += 1;
        }
    }
}

/// `W` vectors of dimensions from `column` on.
#[inline(always)]
unsafe fn strip<S: Simd, E: Element, const T: usize, const W: usize>(
    simd: S,
    weights: *const f32,
    tokens: Range<usize>,
    values: &[*const E],
    padded: usize,
    column: usize,
    sums: *mut f32,
) {
    // SAFETY: the caller's promises.
    unsafe {
        let sums = sums.add(column * LANES);
        let mut accumulators: [[S::Vector; W]; T] =
            std::array::from_fn(|t| std::array::from_fn(|w| simd.load(sums.add(t * padded + w * LANES))));
        let mut token = tokens.start;
        while token < tokens.end {
            let block = values[token / BLOCK_TOKENS].add(column * LANES);
            let end = ((token / BLOCK_TOKENS + 1) * BLOCK_TOKENS).min(tokens.end);
            for token in token..end {
                let row = block.add(token % BLOCK_TOKENS * padded);
                let value: [S::Vector; W] = std::array::from_fn(|w| E::load(simd, row.add(w * LANES)));
                for (t, accumulators) in accumulators.iter_mut().enumerate() {
                    let weight = simd.splat(*weights.add(t * PARTITION + token));
                    for (accumulator, value) in accumulators.iter_mut().zip(value) {
                        *accumulator = simd.mul_add(weight, value, *accumulator);
                    }
                }
            }
            token = end;
        }
        for (t, accumulators) in accumulators.iter().enumerate() {
            for (w, accumulator) in accumulators.iter().enumerate() {
                simd.store(sums.add(t * padded + w * LANES), *accumulator);
            }
        }
    }
}
