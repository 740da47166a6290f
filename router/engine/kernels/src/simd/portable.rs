use half::f16;

use super::{LANES, Simd};

/// No instructions beyond the target's baseline; the compiler vectorises the loops as it can.
#[derive(Debug, Clone, Copy)]
pub struct Portable;

type Lanes = [f32; LANES];

#[inline(always)]
fn zip(a: Lanes, b: Lanes, f: impl Fn(f32, f32) -> f32) -> Lanes {
    std::array::from_fn(|lane| f(a[lane], b[lane]))
}

/// `2^n` of an integer in -126..=127.
#[inline(always)]
fn power_of_two(n: i32) -> f32 {
    f32::from_bits(((n + 127) as u32) << 23)
}

impl Simd for Portable {
    type Vector = Lanes;

    const ACCUMULATORS: usize = 4;

    #[inline(always)]
    fn splat(self, value: f32) -> Lanes {
        [value; LANES]
    }

    #[inline(always)]
    unsafe fn load(self, from: *const f32) -> Lanes {
        // SAFETY: the caller promises LANES numbers; unaligned is allowed.
        unsafe { from.cast::<Lanes>().read_unaligned() }
    }

    #[inline(always)]
    unsafe fn load_part(self, from: *const f32, count: usize) -> Lanes {
        // SAFETY: the caller promises `count` numbers.
        std::array::from_fn(|lane| if lane < count { unsafe { from.add(lane).read() } } else { 0.0 })
    }

    #[inline(always)]
    unsafe fn load_f16(self, from: *const u16) -> Lanes {
        // SAFETY: the caller promises LANES numbers.
        std::array::from_fn(|lane| f16::from_bits(unsafe { from.add(lane).read() }).to_f32())
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut f32, value: Lanes) {
        // SAFETY: the caller promises room for LANES numbers; unaligned is allowed.
        unsafe { to.cast::<Lanes>().write_unaligned(value) }
    }

    #[inline(always)]
    unsafe fn store_part(self, to: *mut f32, value: Lanes, count: usize) {
        for (lane, value) in value.into_iter().take(count).enumerate() {
            // SAFETY: the caller promises room for `count` numbers.
            unsafe { to.add(lane).write(value) }
        }
    }

    #[inline(always)]
    fn add(self, a: Lanes, b: Lanes) -> Lanes {
        zip(a, b, |a, b| a + b)
    }

    #[inline(always)]
    fn sub(self, a: Lanes, b: Lanes) -> Lanes {
        zip(a, b, |a, b| a - b)
    }

    #[inline(always)]
    fn mul(self, a: Lanes, b: Lanes) -> Lanes {
        zip(a, b, |a, b| a * b)
    }

    #[inline(always)]
    fn div(self, a: Lanes, b: Lanes) -> Lanes {
        zip(a, b, |a, b| a / b)
    }

    #[inline(always)]
    fn min(self, a: Lanes, b: Lanes) -> Lanes {
        zip(a, b, |a, b| if a < b { a } else { b })
    }

    #[inline(always)]
    fn max(self, a: Lanes, b: Lanes) -> Lanes {
        zip(a, b, |a, b| if a > b { a } else { b })
    }

    #[inline(always)]
    fn mul_add(self, a: Lanes, b: Lanes, c: Lanes) -> Lanes {
        // Fused as the other levels' is: slow where the CPU has no such instruction, but the same bits.
        std::array::from_fn(|lane| a[lane].mul_add(b[lane], c[lane]))
    }

    #[inline(always)]
    fn round(self, a: Lanes) -> Lanes {
        // Adding and taking away 1.5 * 2^23 rounds what is small; the kernels' exponents are.
        const MAGIC: f32 = 12_582_912.0;
        a.map(|a| (a + MAGIC) - MAGIC)
    }

    #[inline(always)]
    fn scale(self, a: Lanes, n: Lanes) -> Lanes {
        zip(a, n, |a, n| {
            let n = n as i32;
            let half = n >> 1;
            a * power_of_two(half) * power_of_two(n - half)
        })
    }

    #[inline(always)]
    fn first(self, count: usize, a: Lanes, b: Lanes) -> Lanes {
        std::array::from_fn(|lane| if lane < count { a[lane] } else { b[lane] })
    }
}
