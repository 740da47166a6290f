//! Activations to 8 bits, block by block, as llama.cpp does it on x86: `quantise_q8` is `quantize_row_q8_0` and `_q8_1`, `quantise_q8k` is
//! `quantize_row_q8_K`.

use half::f16;

use super::level::Level;

/// Scale, scale times sum (both rounded to f16), and sum of the codes of a block of 32. The scale is amax/127.
pub(super) fn quantise_q8(level: Level, values: &[f32; 32], codes: &mut [i8; 32]) -> (f32, f32, i32) {
    match level {
        // SAFETY: the level was detected.
        #[cfg(target_arch = "x86_64")]
        Level::Avx512 => unsafe { super::avx512::quantise_q8(values, codes) },
        _ => portable_q8(values, codes),
    }
}

/// Scale and sums of 16 of the codes of a block of 256. The scale has the sign that makes the largest value -127.
pub(super) fn quantise_q8k(
    level: Level,
    values: &[f32; 256],
    codes: &mut [i8; 256],
    totals: &mut [i32; 16],
) -> f32 {
    match level {
        // SAFETY: the level was detected.
        #[cfg(target_arch = "x86_64")]
        Level::Avx512 => unsafe { super::avx512::quantise_q8k(values, codes, totals) },
        _ => portable_q8k(values, codes, totals),
    }
}

fn portable_q8(values: &[f32; 32], codes: &mut [i8; 32]) -> (f32, f32, i32) {
    let largest = values.iter().fold(0.0_f32, |largest, value| largest.max(value.abs()));
    let scale = largest / 127.0;
    let inverse = if largest == 0.0 { 0.0 } else { 127.0 / largest };
    let mut total = 0;
    for (code, value) in codes.iter_mut().zip(values) {
        *code = whole(value * inverse);
        total += i32::from(*code);
    }
    let short = |value: f32| f16::from_f32(value).to_f32();
    (short(scale), short(scale * total as f32), total)
}

fn portable_q8k(values: &[f32; 256], codes: &mut [i8; 256], totals: &mut [i32; 16]) -> f32 {
    let largest = values
        .iter()
        .fold(0.0_f32, |largest, value| if value.abs() > largest.abs() { *value } else { largest });
    if largest == 0.0 {
        codes.fill(0);
        totals.fill(0);
        return 0.0;
    }
    let inverse = -127.0 / largest;
    for (code, value) in codes.iter_mut().zip(values) {
        *code = whole(value * inverse);
    }
    for (total, codes) in totals.iter_mut().zip(codes.chunks_exact(16)) {
        *total = codes.iter().map(|code| i32::from(*code)).sum();
    }
    1.0 / inverse
}

/// The nearest whole number, ties to even, of a number of at most 127: adding 1.5 * 2^23 leaves it in the low bits.
fn whole(value: f32) -> i8 {
    (value + 12_582_912.0).to_bits() as i8
}
