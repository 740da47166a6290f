//! Activation functions and the choice of experts.
#![expect(unsafe_code, reason = "vector loads and stores")]

mod top_k;

use crate::{
    pool::Pool,
    rows::for_rows,
    simd::{self, Kernel, LANES, Level, Simd},
};

pub use top_k::{GateWeights, softmax_top_k};

/// Rows that one thread takes at a time, in numbers.
const STRIPE: usize = 1024;

/// `gate[i] = silu(gate[i]) * up[i]`, the gated unit of Llama-like models.
///
/// # Panics
/// The lengths differ.
pub fn silu_mul(pool: &Pool, gate: &mut [f32], up: &[f32]) {
    assert_eq!(gate.len(), up.len(), "gate and up differ in length");
    stripes(pool, gate, &|start, gate| open(gate, &up[start..start + gate.len()]));
}

/// As [`silu_mul`], on this thread.
pub(crate) fn open(gate: &mut [f32], up: &[f32]) {
    Level::best().run(SiluMul { gate, up });
}

/// `x[i] = x[i]/2 (1 + erf(x[i] / sqrt 2))`, as BERT has it; on this thread.
pub(crate) fn gelu(x: &mut [f32]) {
    Level::best().run(Gelu(x));
}

/// Calls `work(start, part)` for parts that cover `out`.
fn stripes(pool: &Pool, out: &mut [f32], work: &(dyn Fn(usize, &mut [f32]) + Sync)) {
    let whole = out.len() / STRIPE * STRIPE;
    let (stripes, rest) = out.split_at_mut(whole);
    for_rows(pool, stripes, STRIPE, &|rows, part| work(rows.start * STRIPE, part));
    work(whole, rest);
}

struct SiluMul<'a> {
    gate: &'a mut [f32],
    up: &'a [f32],
}

impl Kernel for SiluMul<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        for (gate, up) in self.gate.chunks_mut(LANES).zip(self.up.chunks(LANES)) {
            let count = gate.len().min(up.len());
            // SAFETY: both have `count` numbers.
            unsafe {
                let x = simd.load_part(gate.as_ptr(), count);
                let up = simd.load_part(up.as_ptr(), count);
                simd.store_part(gate.as_mut_ptr(), simd.mul(simd::silu(simd, x), up), count);
            }
        }
    }
}

struct Gelu<'a>(&'a mut [f32]);

impl Kernel for Gelu<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        for chunk in self.0.chunks_mut(LANES) {
            // SAFETY: the chunk's own length.
            unsafe {
                let x = simd.load_part(chunk.as_ptr(), chunk.len());
                simd.store_part(chunk.as_mut_ptr(), simd::gelu(simd, x), chunk.len());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroUsize;

    use super::*;

    #[test]
    fn any_length_and_number_of_threads_gives_the_same() {
        for length in [0, 1, 15, 16, 1023, 1025, 40_000] {
            let x: Vec<f32> = (0..length).map(|i| (i % 37) as f32 / 4.0 - 4.0).collect();
            let up: Vec<f32> = (0..length).map(|i| (i % 5) as f32).collect();
            let results = [1, 3].map(|threads| {
                let pool = Pool::new(NonZeroUsize::new(threads).unwrap()).unwrap();
                let mut products = x.clone();
                silu_mul(&pool, &mut products, &up);
                products
            });
            assert_eq!(results[0], results[1]);
            for (i, y) in results[0].iter().enumerate() {
                let exact = x[i] / (1.0 + (-x[i]).exp()) * up[i];
                assert!((y - exact).abs() <= 1e-6 * exact.abs(), "silu({}) * {} = {y}", x[i], up[i]);
            }
        }
    }
}
