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

/// `out[i] = silu(gate[i]) * up[i]`, the gated unit of Llama-like models.
///
/// # Panics
/// The lengths differ.
pub fn silu_mul(pool: &Pool, gate: &[f32], up: &[f32], out: &mut [f32]) {
    assert!(gate.len() == out.len() && up.len() == out.len(), "gate, up and out differ in length");
    let level = Level::best();
    stripes(pool, out, &|start, out| {
        level.run(SiluMul { gate: &gate[start..start + out.len()], up: &up[start..start + out.len()], out });
    });
}

/// `x[i] = x[i]/2 (1 + erf(x[i] / sqrt 2))`, as BERT has it.
pub fn gelu(pool: &Pool, x: &mut [f32]) {
    let level = Level::best();
    stripes(pool, x, &|_, part| level.run(Gelu(part)));
}

/// Calls `work(start, part)` for parts that cover `out`.
fn stripes(pool: &Pool, out: &mut [f32], work: &(dyn Fn(usize, &mut [f32]) + Sync)) {
    let whole = out.len() / STRIPE * STRIPE;
    let (stripes, rest) = out.split_at_mut(whole);
    for_rows(pool, stripes, STRIPE, &|rows, part| work(rows.start * STRIPE, part));
    work(whole, rest);
}

struct SiluMul<'a> {
    gate: &'a [f32],
    up: &'a [f32],
    out: &'a mut [f32],
}

impl Kernel for SiluMul<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        for ((gate, up), out) in
            self.gate.chunks(LANES).zip(self.up.chunks(LANES)).zip(self.out.chunks_mut(LANES))
        {
            let count = out.len();
            // SAFETY: all three have `count` numbers.
            unsafe {
                let gate = simd.load_part(gate.as_ptr(), count);
                let up = simd.load_part(up.as_ptr(), count);
                simd.store_part(out.as_mut_ptr(), simd.mul(simd::silu(simd, gate), up), count);
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
                let (mut products, mut bent) = (vec![f32::NAN; length], x.clone());
                silu_mul(&pool, &x, &up, &mut products);
                gelu(&pool, &mut bent);
                (products, bent)
            });
            assert_eq!(results[0], results[1]);
            for (i, y) in results[0].0.iter().enumerate() {
                let exact = x[i] / (1.0 + (-x[i]).exp()) * up[i];
                assert!((y - exact).abs() <= 1e-6 * exact.abs(), "silu({}) * {} = {y}", x[i], up[i]);
            }
        }
    }
}
