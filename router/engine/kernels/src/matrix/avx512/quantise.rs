//! Quantisation of activations, with the bits of the portable one.

use std::arch::x86_64::*;

/// 1.5 * 2^23: a sum with it is rounded to a whole number (ties to even), whose two's complement stands in its low bits.
const ROUND: f32 = 12_582_912.0;

/// As [`super::super::input`]'s portable version: scale, scale times sum, sum of the codes.
///
/// # Safety
/// The CPU has the features.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,f16c")]
pub(in super::super) fn quantise_q8(values: &[f32; 32], codes: &mut [i8; 32]) -> (f32, f32, i32) {
    // SAFETY: the arrays have the sizes that are read and written.
    unsafe {
        let (a, b) = (_mm512_loadu_ps(values.as_ptr()), _mm512_loadu_ps(values.as_ptr().add(16)));
        let largest = _mm512_reduce_max_ps(_mm512_max_ps(_mm512_abs_ps(a), _mm512_abs_ps(b)));
        let scale = largest / 127.0;
        let inverse = _mm512_set1_ps(if largest == 0.0 { 0.0 } else { 127.0 / largest });
        let whole = |values| whole(_mm512_mul_ps(values, inverse));
        let (a, b) = (whole(a), whole(b));
        _mm_storeu_si128(codes.as_mut_ptr().cast(), _mm512_cvtepi32_epi8(a));
        _mm_storeu_si128(codes.as_mut_ptr().add(16).cast(), _mm512_cvtepi32_epi8(b));
        let total = _mm512_reduce_add_epi32(_mm512_add_epi32(a, b));
        let halves = _mm_cvtps_ph::<0>(_mm_set_ps(0.0, 0.0, scale * total as f32, scale));
        let short = _mm_cvtph_ps(halves);
        (_mm_cvtss_f32(short), _mm_cvtss_f32(_mm_movehdup_ps(short)), total)
    }
}

/// As the portable version: the scale; `totals` are the sums of 16 codes.
///
/// # Safety
/// The CPU has the features.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,f16c,avx512vnni")]
pub(in super::super) fn quantise_q8k(
    values: &[f32; 256],
    codes: &mut [i8; 256],
    totals: &mut [i32; 16],
) -> f32 {
    // SAFETY: the arrays have the sizes that are read and written.
    unsafe {
        let at = |part: usize| _mm512_loadu_ps(values.as_ptr().add(part * 16));
        let (mut high, mut low) = (at(0), at(0));
        for part in 1..16 {
            high = _mm512_max_ps(high, at(part));
            low = _mm512_min_ps(low, at(part));
        }
        let (high, low) = (_mm512_reduce_max_ps(high), _mm512_reduce_min_ps(low));
        let largest = match high.partial_cmp(&-low) {
            Some(std::cmp::Ordering::Greater) => high,
            Some(std::cmp::Ordering::Less) => low,
            _ => values.iter().copied().find(|value| value.abs() == high).unwrap_or(0.0),
        };
        if largest == 0.0 {
            codes.fill(0);
            totals.fill(0);
            return 0.0;
        }
        let inverse = -127.0 / largest;
        for part in 0..16 {
            let whole = whole(_mm512_mul_ps(at(part), _mm512_set1_ps(inverse)));
            _mm_storeu_si128(codes.as_mut_ptr().add(part * 16).cast(), _mm512_cvtepi32_epi8(whole));
            totals[part] = _mm512_reduce_add_epi32(whole);
        }
        1.0 / inverse
    }
}

#[inline]
#[target_feature(enable = "avx512f")]
fn whole(values: __m512) -> __m512i {
    let bits = _mm512_castps_si512(_mm512_add_ps(values, _mm512_set1_ps(ROUND)));
    _mm512_sub_epi32(bits, _mm512_set1_epi32(ROUND.to_bits().cast_signed()))
}
