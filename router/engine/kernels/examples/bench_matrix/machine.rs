//! What the machine can do at most: reads from memory, f32 and 8-bit multiply-adds.

#![expect(unsafe_code, reason = "the instructions whose peak is measured")]

use std::hint::black_box;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use reprise_kernels::pool::{Pool, share};

/// Peaks of all threads of a pool together, per second.
pub struct Machine {
    /// Bytes read from memory.
    pub bandwidth: f64,
    /// f32 operations; a fused multiply-add is two.
    pub floats: f64,
    /// 8-bit operations; a multiply and an add are two.
    pub integers: f64,
}

impl Machine {
    pub fn measure(pool: &Pool) -> Self {
        let memory = vec![1_u64; 64 << 20];
        let read = |index: usize, total: &AtomicU64| {
            let part = &memory[share(memory.len(), 4096, index, pool.threads())];
            total.fetch_add(sum(part), Ordering::Relaxed);
        };
        let bandwidth = size_of_val(memory.as_slice()) as f64 / fastest(pool, 5, &read);
        let steps = 2_000_000;
        let each = (steps * pool.threads()) as f64;
        let floats = each * FLOATS / fastest(pool, 10, &|_, _| multiply_floats(steps));
        let integers = each * INTEGERS / fastest(pool, 10, &|_, _| multiply_integers(steps));
        Self { bandwidth, floats, integers }
    }
}

fn fastest(pool: &Pool, times: usize, job: &(dyn Fn(usize, &AtomicU64) + Sync)) -> f64 {
    let total = AtomicU64::new(0);
    let time = |_| {
        let start = Instant::now();
        pool.run(&|index| job(index, &total));
        start.elapsed().as_secs_f64()
    };
    let fastest = (0..times).map(time).fold(f64::INFINITY, f64::min);
    black_box(total);
    fastest
}

fn sum(values: &[u64]) -> u64 {
    let mut sums = [0_u64; 32];
    for values in values.as_chunks::<32>().0 {
        for (sum, value) in sums.iter_mut().zip(values) {
            *sum = sum.wrapping_add(*value);
        }
    }
    sums.iter().sum()
}

#[cfg(target_arch = "x86_64")]
mod peak {
    use std::arch::x86_64::*;
    use std::hint::black_box;

    /// Operations of a step: 12 registers of 16 lanes.
    pub const FLOATS: f64 = 12.0 * 16.0 * 2.0;
    /// Operations of a step: 12 registers of 64 bytes.
    pub const INTEGERS: f64 = 12.0 * 64.0 * 2.0;

    pub fn multiply_floats(steps: usize) {
        if std::arch::is_x86_feature_detected!("avx512f") {
            // SAFETY: detected.
            unsafe { floats512(steps) }
        }
    }

    pub fn multiply_integers(steps: usize) {
        if std::arch::is_x86_feature_detected!("avx512vnni") {
            // SAFETY: detected.
            unsafe { integers512(steps) }
        }
    }

    #[target_feature(enable = "avx512f")]
    fn floats512(steps: usize) {
        let mut sums = [_mm512_set1_ps(1.0); 12];
        let (a, b) = black_box((_mm512_set1_ps(0.999), _mm512_set1_ps(1.001)));
        for _ in 0..steps {
            for sum in &mut sums {
                *sum = _mm512_fmadd_ps(*sum, a, b);
            }
        }
        black_box(sums);
    }

    #[target_feature(enable = "avx512f,avx512vnni")]
    fn integers512(steps: usize) {
        let mut sums = [_mm512_setzero_si512(); 12];
        let (a, b) = black_box((_mm512_set1_epi8(3), _mm512_set1_epi8(5)));
        for _ in 0..steps {
            for sum in &mut sums {
                *sum = _mm512_dpbusd_epi32(*sum, a, b);
            }
        }
        black_box(sums);
    }
}

#[cfg(not(target_arch = "x86_64"))]
mod peak {
    pub const FLOATS: f64 = f64::NAN;
    pub const INTEGERS: f64 = f64::NAN;

    pub fn multiply_floats(_: usize) {}

    pub fn multiply_integers(_: usize) {}
}

use peak::{FLOATS, INTEGERS, multiply_floats, multiply_integers};
