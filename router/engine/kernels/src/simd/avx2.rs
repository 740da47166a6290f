use std::arch::x86_64::{
    __m128i, __m256, __m256i, _CMP_GT_OQ, _MM_FROUND_NO_EXC, _MM_FROUND_TO_NEAREST_INT, _mm_loadu_si128,
    _mm256_add_epi32, _mm256_add_ps, _mm256_blendv_ps, _mm256_castsi256_ps, _mm256_cmp_ps,
    _mm256_cvtepi8_epi16, _mm256_cvtph_ps, _mm256_cvtps_epi32, _mm256_div_ps, _mm256_fmadd_ps,
    _mm256_loadu_ps, _mm256_loadu_si256, _mm256_madd_epi16, _mm256_max_ps, _mm256_min_ps, _mm256_mul_ps,
    _mm256_round_ps, _mm256_set1_epi32, _mm256_set1_ps, _mm256_setr_ps, _mm256_setzero_si256,
    _mm256_slli_epi32, _mm256_srai_epi32, _mm256_storeu_ps, _mm256_storeu_si256, _mm256_sub_epi32,
    _mm256_sub_ps,
};

use super::{Kernel, LANES, Simd};

/// AVX2 with FMA and F16C.
#[derive(Debug, Clone, Copy)]
pub struct Avx2(());

impl Avx2 {
    pub fn detect() -> Option<Self> {
        (is_x86_feature_detected!("avx2")
            && is_x86_feature_detected!("fma")
            && is_x86_feature_detected!("f16c"))
        .then_some(Self(()))
    }

    /// # Safety
    /// [`Self::detect`] found it.
    pub unsafe fn assume() -> Self {
        Self(())
    }
}

/// # Safety
/// The machine has AVX2, FMA and F16C.
#[target_feature(enable = "avx2,fma,f16c")]
pub unsafe fn enter<K: Kernel>(simd: Avx2, kernel: K) -> K::Output {
    kernel.run(simd)
}

/// `2^n` of an integer in -126..=127.
///
/// # Safety
/// The machine has AVX2.
#[inline(always)]
unsafe fn power_of_two(n: __m256i) -> __m256 {
    // SAFETY: as the caller promises.
    unsafe { _mm256_castsi256_ps(_mm256_slli_epi32::<23>(_mm256_add_epi32(n, _mm256_set1_epi32(127)))) }
}

/// # Safety
/// The machine has AVX2.
#[inline(always)]
unsafe fn scale_half(a: __m256, n: __m256) -> __m256 {
    // In two steps, as 2^n itself may be no normal number.
    // SAFETY: as the caller promises.
    unsafe {
        let n = _mm256_cvtps_epi32(n);
        let half = _mm256_srai_epi32::<1>(n);
        let rest = _mm256_sub_epi32(n, half);
        _mm256_mul_ps(_mm256_mul_ps(a, power_of_two(half)), power_of_two(rest))
    }
}

type Pair = [__m256; 2];

// SAFETY of all blocks below: a value of `Avx2` proves that the machine has the instructions; pointers are as the trait asks.
impl Simd for Avx2 {
    type Vector = Pair;

    const ACCUMULATORS: usize = 4;

    #[inline(always)]
    fn splat(self, value: f32) -> Pair {
        // SAFETY: see above.
        unsafe { [_mm256_set1_ps(value); 2] }
    }

    #[inline(always)]
    unsafe fn load(self, from: *const f32) -> Pair {
        // SAFETY: see above.
        unsafe { [_mm256_loadu_ps(from), _mm256_loadu_ps(from.add(8))] }
    }

    #[inline(always)]
    unsafe fn load_part(self, from: *const f32, count: usize) -> Pair {
        let mut lanes = [0.0; LANES];
        // SAFETY: see above.
        unsafe {
            std::ptr::copy_nonoverlapping(from, lanes.as_mut_ptr(), count);
            self.load(lanes.as_ptr())
        }
    }

    #[inline(always)]
    unsafe fn load_f16(self, from: *const u16) -> Pair {
        let from = from.cast::<__m128i>();
        // SAFETY: see above.
        unsafe { [_mm256_cvtph_ps(_mm_loadu_si128(from)), _mm256_cvtph_ps(_mm_loadu_si128(from.add(1)))] }
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut f32, value: Pair) {
        // SAFETY: see above.
        unsafe {
            _mm256_storeu_ps(to, value[0]);
            _mm256_storeu_ps(to.add(8), value[1]);
        }
    }

    #[inline(always)]
    unsafe fn store_part(self, to: *mut f32, value: Pair, count: usize) {
        let lanes = self.lanes(value);
        // SAFETY: see above.
        unsafe { std::ptr::copy_nonoverlapping(lanes.as_ptr(), to, count) }
    }

    #[inline(always)]
    fn add(self, a: Pair, b: Pair) -> Pair {
        // SAFETY: see above.
        unsafe { [_mm256_add_ps(a[0], b[0]), _mm256_add_ps(a[1], b[1])] }
    }

    #[inline(always)]
    fn sub(self, a: Pair, b: Pair) -> Pair {
        // SAFETY: see above.
        unsafe { [_mm256_sub_ps(a[0], b[0]), _mm256_sub_ps(a[1], b[1])] }
    }

    #[inline(always)]
    fn mul(self, a: Pair, b: Pair) -> Pair {
        // SAFETY: see above.
        unsafe { [_mm256_mul_ps(a[0], b[0]), _mm256_mul_ps(a[1], b[1])] }
    }

    #[inline(always)]
    fn div(self, a: Pair, b: Pair) -> Pair {
        // SAFETY: see above.
        unsafe { [_mm256_div_ps(a[0], b[0]), _mm256_div_ps(a[1], b[1])] }
    }

    #[inline(always)]
    fn min(self, a: Pair, b: Pair) -> Pair {
        // SAFETY: see above.
        unsafe { [_mm256_min_ps(a[0], b[0]), _mm256_min_ps(a[1], b[1])] }
    }

    #[inline(always)]
    fn max(self, a: Pair, b: Pair) -> Pair {
        // SAFETY: see above.
        unsafe { [_mm256_max_ps(a[0], b[0]), _mm256_max_ps(a[1], b[1])] }
    }

    #[inline(always)]
    fn mul_add(self, a: Pair, b: Pair, c: Pair) -> Pair {
        // SAFETY: see above.
        unsafe { [_mm256_fmadd_ps(a[0], b[0], c[0]), _mm256_fmadd_ps(a[1], b[1], c[1])] }
    }

    #[inline(always)]
    fn round(self, a: Pair) -> Pair {
        const NEAREST: i32 = _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC;
        // SAFETY: see above.
        unsafe { [_mm256_round_ps::<NEAREST>(a[0]), _mm256_round_ps::<NEAREST>(a[1])] }
    }

    #[inline(always)]
    fn scale(self, a: Pair, n: Pair) -> Pair {
        // SAFETY: see above.
        unsafe { [scale_half(a[0], n[0]), scale_half(a[1], n[1])] }
    }

    #[inline(always)]
    fn first(self, count: usize, a: Pair, b: Pair) -> Pair {
        // SAFETY: see above.
        unsafe {
            let count = _mm256_set1_ps(count.min(LANES) as f32);
            let low = _mm256_setr_ps(0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0);
            let high = _mm256_setr_ps(8.0, 9.0, 10.0, 11.0, 12.0, 13.0, 14.0, 15.0);
            [
                _mm256_blendv_ps(b[0], a[0], _mm256_cmp_ps::<_CMP_GT_OQ>(count, low)),
                _mm256_blendv_ps(b[1], a[1], _mm256_cmp_ps::<_CMP_GT_OQ>(count, high)),
            ]
        }
    }

    #[inline(always)]
    unsafe fn dot_codes(self, a: *const i16, b: *const i8, count: usize) -> i32 {
        // SAFETY: the caller's promise, and see above.
        unsafe { dot_codes(a, b, count) }
    }
}

/// Two sums of eight lanes, so that one does not wait for the other.
///
/// # Safety
/// The machine has AVX2, and both have `count` readable numbers.
#[inline(always)]
pub unsafe fn dot_codes(a: *const i16, b: *const i8, count: usize) -> i32 {
    const STEP: usize = 16;
    // SAFETY: the caller's promise; steps end within `count`.
    unsafe {
        let mut sums = [_mm256_setzero_si256(); 2];
        let mut at = 0;
        while at + 2 * STEP <= count {
            for (half, sum) in sums.iter_mut().enumerate() {
                let (a, b) = (a.add(at + half * STEP), b.add(at + half * STEP));
                let wide = _mm256_cvtepi8_epi16(_mm_loadu_si128(b.cast()));
                *sum = _mm256_add_epi32(*sum, _mm256_madd_epi16(_mm256_loadu_si256(a.cast()), wide));
            }
            at += 2 * STEP;
        }
        let mut lanes = [0_i32; 8];
        _mm256_storeu_si256(lanes.as_mut_ptr().cast(), _mm256_add_epi32(sums[0], sums[1]));
        let mut total = 0;
        for lane in lanes {
            total += lane;
        }
        while at < count {
            total += i32::from(*a.add(at)) * i32::from(*b.add(at));
            at += 1;
        }
        total
    }
}
