//! Sixteen f32 lanes on every machine, so that one generic kernel serves AVX-512, AVX2 and everything else.
//!
//! A kernel is a type that implements [`Kernel`]. [`Level::run`] compiles its `run` once for each instruction set and picks
//! one at run time. Only operations that IEEE 754 rounds are used, so that all levels give the same bits.
#![expect(unsafe_code, reason = "SIMD intrinsics; loads and stores through pointers")]

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod math;
mod portable;

use std::sync::OnceLock;

pub use math::{exp, gelu, silu};

#[cfg(target_arch = "x86_64")]
pub use avx2::Avx2;
#[cfg(target_arch = "x86_64")]
pub use avx512::Avx512;
pub use portable::Portable;

/// Lanes of a vector.
pub const LANES: usize = 16;

/// An instruction set. A value of it proves that the machine has it.
pub trait Simd: Copy {
    /// [`LANES`] numbers.
    type Vector: Copy;

    /// Vectors that a kernel may keep in registers as accumulators, beside what it loads.
    const ACCUMULATORS: usize;

    fn splat(self, value: f32) -> Self::Vector;
    /// # Safety
    /// `from` has [`LANES`] readable numbers.
    unsafe fn load(self, from: *const f32) -> Self::Vector;
    /// The first `count` lanes; the others are 0.
    ///
    /// # Safety
    /// `from` has `count <= LANES` readable numbers.
    unsafe fn load_part(self, from: *const f32, count: usize) -> Self::Vector;
    /// Widens IEEE half precision.
    ///
    /// # Safety
    /// `from` has [`LANES`] readable numbers.
    unsafe fn load_f16(self, from: *const u16) -> Self::Vector;
    /// # Safety
    /// `to` has room for [`LANES`] numbers.
    unsafe fn store(self, to: *mut f32, value: Self::Vector);
    /// The first `count` lanes.
    ///
    /// # Safety
    /// `to` has room for `count <= LANES` numbers.
    unsafe fn store_part(self, to: *mut f32, value: Self::Vector, count: usize);

    fn add(self, a: Self::Vector, b: Self::Vector) -> Self::Vector;
    fn sub(self, a: Self::Vector, b: Self::Vector) -> Self::Vector;
    fn mul(self, a: Self::Vector, b: Self::Vector) -> Self::Vector;
    fn div(self, a: Self::Vector, b: Self::Vector) -> Self::Vector;
    fn min(self, a: Self::Vector, b: Self::Vector) -> Self::Vector;
    fn max(self, a: Self::Vector, b: Self::Vector) -> Self::Vector;
    /// `a * b + c`
    fn mul_add(self, a: Self::Vector, b: Self::Vector, c: Self::Vector) -> Self::Vector;
    /// To the nearest integer, ties to even.
    fn round(self, a: Self::Vector) -> Self::Vector;
    /// `a * 2^n`; every lane of `n` is an integer in `-252..=252`. Overflows to infinity, underflows to 0.
    fn scale(self, a: Self::Vector, n: Self::Vector) -> Self::Vector;
    /// The first `count` lanes of `a` (all of them for `count >= LANES`), the other lanes of `b`.
    fn first(self, count: usize, a: Self::Vector, b: Self::Vector) -> Self::Vector;

    /// `sum a_i b_i` of whole numbers, exact as long as it fits.
    ///
    /// # Safety
    /// Both have `count` readable numbers.
    #[inline(always)]
    unsafe fn dot_codes(self, a: *const i16, b: *const i8, count: usize) -> i32 {
        // SAFETY: the caller's promise.
        let (a, b) = unsafe { (std::slice::from_raw_parts(a, count), std::slice::from_raw_parts(b, count)) };
        a.iter().zip(b).map(|(a, b)| i32::from(*a) * i32::from(*b)).sum()
    }

    /// The lanes as an array.
    #[inline(always)]
    fn lanes(self, a: Self::Vector) -> [f32; LANES] {
        let mut lanes = [0.0; LANES];
        // SAFETY: the array has LANES numbers.
        unsafe { self.store(lanes.as_mut_ptr(), a) };
        lanes
    }

    /// Sum of the lanes, always in the same order: halves, quarters, ...
    #[inline(always)]
    fn sum(self, a: Self::Vector) -> f32 {
        fold(self.lanes(a), |a, b| a + b)
    }

    /// The largest lane.
    #[inline(always)]
    fn largest(self, a: Self::Vector) -> f32 {
        fold(self.lanes(a), f32::max)
    }
}

#[inline(always)]
fn fold(mut lanes: [f32; LANES], merge: impl Fn(f32, f32) -> f32) -> f32 {
    let mut width = LANES / 2;
    while width > 0 {
        for lane in 0..width {
            lanes[lane] = merge(lanes[lane], lanes[lane + width]);
        }
        width /= 2;
    }
    lanes[0]
}

/// Code that is compiled for each instruction set. `run` must be `#[inline(always)]`, and so must all that it calls with a
/// vector: only what is inlined into the level's entry point is compiled with its instructions.
pub trait Kernel {
    type Output;

    fn run<S: Simd>(self, simd: S) -> Self::Output;
}

/// An instruction set that this machine has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Level(Kind);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Portable,
    #[cfg(target_arch = "x86_64")]
    Avx2,
    #[cfg(target_arch = "x86_64")]
    Avx512,
}

impl Level {
    /// The best one.
    pub fn best() -> Self {
        static BEST: OnceLock<Level> = OnceLock::new();
        *BEST.get_or_init(|| Self::all().next_back().unwrap_or(Self(Kind::Portable)))
    }

    /// All of this machine, the best one last.
    pub fn all() -> impl DoubleEndedIterator<Item = Self> {
        [
            Some(Kind::Portable),
            #[cfg(target_arch = "x86_64")]
            Avx2::detect().map(|_| Kind::Avx2),
            #[cfg(target_arch = "x86_64")]
            Avx512::detect().map(|_| Kind::Avx512),
        ]
        .into_iter()
        .flatten()
        .map(Self)
    }

    /// Runs the kernel with this level's instructions.
    #[inline]
    pub fn run<K: Kernel>(self, kernel: K) -> K::Output {
        match self.0 {
            Kind::Portable => kernel.run(Portable),
            // SAFETY: a level exists only where its instructions were detected.
            #[cfg(target_arch = "x86_64")]
            Kind::Avx2 => unsafe { avx2::enter(Avx2::assume(), kernel) },
            // SAFETY: as above.
            #[cfg(target_arch = "x86_64")]
            Kind::Avx512 => unsafe { avx512::enter(Avx512::assume(), kernel) },
        }
    }

    /// [`Simd::ACCUMULATORS`] of this level.
    pub fn accumulators(self) -> usize {
        match self.0 {
            Kind::Portable => Portable::ACCUMULATORS,
            #[cfg(target_arch = "x86_64")]
            Kind::Avx2 => Avx2::ACCUMULATORS,
            #[cfg(target_arch = "x86_64")]
            Kind::Avx512 => Avx512::ACCUMULATORS,
        }
    }
}

#[cfg(test)]
mod tests;
