//! Inner products for nearest-neighbour search: of two vectors, and of one with many that are rounded to 8 bits.

#![expect(unsafe_code, reason = "vector loads")]

use crate::simd::{Kernel, LANES, Level, Simd};

/// `sum_i a_i b_i`. Sums run in sixteen lanes that are folded in a fixed order: the same bits on every machine.
///
/// # Panics
/// The lengths differ.
pub fn dot(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len(), "lengths of the vectors");
    Level::best().run(Dot { a, b })
}

/// `out[row] = sum_i query[i] codes[row, i]`; `codes`: `[rows, query.len()]`. The query's numbers are wide only because the
/// machine's products are; within -127..=127 the sums are exact up to 2^17 dimensions.
///
/// # Panics
/// `codes` are not rows of the query's length.
pub fn code_dots(query: &[i16], codes: &[i8], out: &mut Vec<i32>) {
    assert!(!query.is_empty() && codes.len().is_multiple_of(query.len()), "rows of {} codes", query.len());
    out.resize(codes.len() / query.len(), 0);
    Level::best().run(CodeDots { query, codes, out });
}

struct Dot<'a> {
    a: &'a [f32],
    b: &'a [f32],
}

impl Kernel for Dot<'_> {
    type Output = f32;

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) -> f32 {
        let mut sums = simd.splat(0.0);
        for start in (0..self.a.len()).step_by(LANES) {
            let count = (self.a.len() - start).min(LANES);
            // SAFETY: both have `count` numbers from `start` on, by the assertion of `dot`.
            let (a, b) = unsafe {
                let (a, b) = (self.a.as_ptr().add(start), self.b.as_ptr().add(start));
                if count == LANES {
                    (simd.load(a), simd.load(b))
                } else {
                    (simd.load_part(a, count), simd.load_part(b, count))
                }
            };
            sums = simd.mul_add(a, b, sums);
        }
        simd.sum(sums)
    }
}

struct CodeDots<'a> {
    query: &'a [i16],
    codes: &'a [i8],
    out: &'a mut [i32],
}

impl Kernel for CodeDots<'_> {
    type Output = ();

    /// A plain loop: what another function calls back would not have the level's instructions.
    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let count = self.query.len();
        for (out, codes) in self.out.iter_mut().zip(self.codes.chunks_exact(count)) {
            // SAFETY: both have `count` numbers.
            *out = unsafe { simd.dot_codes(self.query.as_ptr(), codes.as_ptr(), count) };
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn every_level_gives_the_same_bits_and_the_product(
            pairs in prop::collection::vec((-1.0_f32..1.0, -1.0_f32..1.0), 0..100)
        ) {
            let (a, b): (Vec<f32>, Vec<f32>) = pairs.into_iter().unzip();
            let exact: f64 = a.iter().zip(&b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum();
            prop_assert!((f64::from(dot(&a, &b)) - exact).abs() < 1e-5);
            for level in Level::all() {
                prop_assert_eq!(level.run(Dot { a: &a, b: &b }).to_bits(), dot(&a, &b).to_bits());
            }
        }

        #[test]
        fn sums_of_codes_are_exact(
            query in prop::collection::vec(-127_i16..=127, 1..70), rows in 0_usize..5, seed: i8,
        ) {
            let codes: Vec<i8> =
                (0..rows * query.len()).map(|at| (at as i8).wrapping_mul(seed).max(-127)).collect();
            let expected: Vec<i32> = codes
                .chunks_exact(query.len())
                .map(|row| row.iter().zip(&query).map(|(a, b)| i32::from(*a) * i32::from(*b)).sum())
                .collect();
            for level in Level::all() {
                let mut out = vec![7; rows];
                level.run(CodeDots { query: &query, codes: &codes, out: &mut out });
                prop_assert_eq!(&out, &expected);
            }
        }
    }
}
