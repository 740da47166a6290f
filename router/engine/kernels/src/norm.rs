//! Normalisation of rows. Sums run in sixteen lanes that are folded in a fixed order, so a row's bits depend on it alone.
#![expect(unsafe_code, reason = "vector loads and stores")]

use crate::{
    pool::Pool,
    rows::for_rows,
    simd::{Kernel, LANES, Level, Simd},
};

/// `out = x / sqrt(mean(x^2) + eps) * weight` for each row of `weight.len()` numbers (Zhang and Sennrich 2019).
///
/// # Panics
/// `x` and `out` are not the same number of such rows.
pub fn rms_norm(pool: &Pool, x: &[f32], weight: &[f32], eps: f32, out: &mut [f32]) {
    assert_eq!(x.len(), out.len(), "x and out differ in length");
    let (width, level) = (weight.len(), Level::best());
    for_rows(pool, out, width, &|rows, out| {
        level.run(RmsNorm { x: &x[rows.start * width..rows.end * width], weight, eps, out });
    });
}

/// `out = (x - mean) / sqrt(variance + eps) * weight + bias` for each row of `weight.len()` numbers.
///
/// # Panics
/// `x` and `out` are not the same number of such rows, or `bias` has another length than `weight`.
pub fn layer_norm(pool: &Pool, x: &[f32], weight: &[f32], bias: &[f32], eps: f32, out: &mut [f32]) {
    assert!(
        x.len() == out.len() && bias.len() == weight.len(),
        "x and out or weight and bias differ in length"
    );
    let (width, level) = (weight.len(), Level::best());
    for_rows(pool, out, width, &|rows, out| {
        level.run(LayerNorm { x: &x[rows.start * width..rows.end * width], weight, bias, eps, out });
    });
}

struct RmsNorm<'a> {
    x: &'a [f32],
    weight: &'a [f32],
    eps: f32,
    out: &'a mut [f32],
}

impl Kernel for RmsNorm<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let width = self.weight.len();
        for (x, out) in self.x.chunks_exact(width).zip(self.out.chunks_exact_mut(width)) {
            let squares = total(simd, x, |x| simd.mul(x, x));
            let factor = simd.splat(1.0 / (squares / width as f32 + self.eps).sqrt());
            for (start, count) in parts(width) {
                // SAFETY: x, weight and out have `width` numbers, and the part lies within.
                unsafe {
                    let x = simd.load_part(x.as_ptr().add(start), count);
                    let weight = simd.load_part(self.weight.as_ptr().add(start), count);
                    simd.store_part(
                        out.as_mut_ptr().add(start),
                        simd.mul(simd.mul(x, factor), weight),
                        count,
                    );
                }
            }
        }
    }
}

struct LayerNorm<'a> {
    x: &'a [f32],
    weight: &'a [f32],
    bias: &'a [f32],
    eps: f32,
    out: &'a mut [f32],
}

impl Kernel for LayerNorm<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let width = self.weight.len();
        for (x, out) in self.x.chunks_exact(width).zip(self.out.chunks_exact_mut(width)) {
            let mean = simd.splat(total(simd, x, |x| x) / width as f32);
            // In a second pass: the difference of E[x^2] and E[x]^2 cancels.
            let squares = total(simd, x, |x| {
                let x = simd.sub(x, mean);
                simd.mul(x, x)
            });
            let factor = simd.splat(1.0 / (squares / width as f32 + self.eps).sqrt());
            for (start, count) in parts(width) {
                // SAFETY: all have `width` numbers, and the part lies within.
                unsafe {
                    let x = simd.load_part(x.as_ptr().add(start), count);
                    let weight = simd.load_part(self.weight.as_ptr().add(start), count);
                    let bias = simd.load_part(self.bias.as_ptr().add(start), count);
                    let scaled = simd.mul(simd.sub(x, mean), factor);
                    simd.store_part(out.as_mut_ptr().add(start), simd.mul_add(scaled, weight, bias), count);
                }
            }
        }
    }
}

/// Starts and lengths of the vectors of a row.
#[inline(always)]
fn parts(width: usize) -> impl Iterator<Item = (usize, usize)> {
    (0..width).step_by(LANES).map(move |start| (start, (width - start).min(LANES)))
}

/// Sum of `of(x)` over the row. Four sums at a time hide the adder's latency.
#[inline(always)]
fn total<S: Simd>(simd: S, row: &[f32], of: impl Fn(S::Vector) -> S::Vector) -> f32 {
    let mut sums = [simd.splat(0.0); 4];
    let mut start = 0;
    while start + 4 * LANES <= row.len() {
        for (part, sum) in sums.iter_mut().enumerate() {
            // SAFETY: 4 vectors from `start` lie within the row.
            let x = unsafe { simd.load(row.as_ptr().add(start + part * LANES)) };
            *sum = simd.add(*sum, of(x));
        }
        start += 4 * LANES;
    }
    while start < row.len() {
        let count = (row.len() - start).min(LANES);
        // SAFETY: the part lies within the row.
        let x = unsafe { simd.load_part(row.as_ptr().add(start), count) };
        sums[0] = simd.add(sums[0], simd.first(count, of(x), simd.splat(0.0)));
        start += LANES;
    }
    simd.sum(simd.add(simd.add(sums[0], sums[1]), simd.add(sums[2], sums[3])))
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroUsize;

    use rand::{Rng, SeedableRng, rngs::SmallRng};

    use super::*;

    fn numbers(count: usize, seed: u64) -> Vec<f32> {
        let mut random = SmallRng::seed_from_u64(seed);
        (0..count).map(|_| random.random_range(-2.0..2.0) + 0.5).collect()
    }

    fn exact(x: &[f32], weight: &[f32], bias: Option<&[f32]>, eps: f64) -> Vec<f64> {
        let width = weight.len() as f64;
        let mean = bias.map_or(0.0, |_| x.iter().copied().map(f64::from).sum::<f64>() / width);
        let variance = x.iter().map(|x| (f64::from(*x) - mean).powi(2)).sum::<f64>() / width;
        let scale = 1.0 / (variance + eps).sqrt();
        (0..x.len())
            .map(|i| {
                (f64::from(x[i]) - mean) * scale * f64::from(weight[i])
                    + bias.map_or(0.0, |b| f64::from(b[i]))
            })
            .collect()
    }

    #[test]
    fn close_to_the_formula_at_each_level_and_width() {
        for level in Level::all() {
            for width in [1, 7, 16, 24, 64, 70, 576, 1536] {
                let (x, weight, bias) = (numbers(3 * width, 1), numbers(width, 2), numbers(width, 3));
                let (mut rms, mut layer) = (vec![f32::NAN; 3 * width], vec![f32::NAN; 3 * width]);
                level.run(RmsNorm { x: &x, weight: &weight, eps: 1e-5, out: &mut rms });
                level.run(LayerNorm { x: &x, weight: &weight, bias: &bias, eps: 1e-2, out: &mut layer });
                for row in 0..3 {
                    let range = row * width..(row + 1) * width;
                    let expected = exact(&x[range.clone()], &weight, None, 1e-5);
                    for (found, expected) in rms[range.clone()].iter().zip(expected) {
                        assert!((f64::from(*found) - expected).abs() < 3e-6, "{level:?} {width}");
                    }
                    let expected = exact(&x[range.clone()], &weight, Some(&bias), 1e-2);
                    for (found, expected) in layer[range].iter().zip(expected) {
                        assert!(
                            (f64::from(*found) - expected).abs() < 2e-5,
                            "{level:?} {width}: {found} {expected}"
                        );
                    }
                }
            }
        }
    }

    #[test]
    fn a_row_has_the_same_bits_in_any_company() {
        let (width, rows) = (576, 64);
        let (x, weight, bias) = (numbers(rows * width, 4), numbers(width, 5), numbers(width, 6));
        let pools = [1, 2, 3].map(|threads| Pool::new(NonZeroUsize::new(threads).unwrap()).unwrap());
        let (mut alone, mut together) = (vec![0.0; width], vec![0.0; rows * width]);
        for pool in &pools {
            rms_norm(pool, &x, &weight, 1e-5, &mut together);
            for (x, found) in x.chunks(width).zip(together.chunks(width)) {
                rms_norm(&pools[0], x, &weight, 1e-5, &mut alone);
                assert_eq!(alone, found);
            }
            layer_norm(pool, &x, &weight, &bias, 1e-5, &mut together);
            for (x, found) in x.chunks(width).zip(together.chunks(width)) {
                layer_norm(&pools[0], x, &weight, &bias, 1e-5, &mut alone);
                assert_eq!(alone, found);
            }
        }
    }
}
