//! Q4_0, Q4_1, Q5_0, Q5_1, Q8_0: blocks of 32 weights with their own scale.

use std::arch::x86_64::*;

use super::{dots, load, load_halves, spread, store};
use crate::matrix::format::{Format, LANES};
use crate::matrix::input::Tile;

/// The products of a panel with `R` rows of a tile from row `first` on; `F` is the format.
///
/// # Safety
/// The CPU has the features; `panel` and `tile` hold the same number of blocks, `tile` at least `first + R` rows.
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) unsafe fn panel<const F: u8, const R: usize>(
    panel: &[u8],
    tile: &Tile<'_>,
    first: usize,
    sums: &mut [[f32; LANES]],
) {
    let format = const { Format::of(F) };
    let layout = const { Format::of(F).layout() };
    for half in 0..2 {
        let mut acc = [_mm256_setzero_ps(); R];
        for index in 0..tile.blocks {
            let at = index * tile.rows + first;
            // SAFETY: the block is in the panel, and its rows in the tile.
            unsafe {
                let block = panel.as_ptr().add(index * format.block_bytes() * LANES);
                let activations = tile.codes.as_ptr().add(at * 32);
                let dots = match format {
                    Format::Q8_0 => signed::<R>(block.add(layout.codes + half * 32), activations),
                    Format::Q5_0 | Format::Q5_1 => dots::<R, 8, 4>(codes::<F>(block, half), activations, 32),
                    _ => dots::<R, 8, 8>(codes::<F>(block, half), activations, 32),
                };
                let scale = load_halves(block.add(layout.scale + half * 16));
                let min = load_halves(block.add(layout.min + half * 16));
                for row in 0..R {
                    let total = *tile.totals.as_ptr().add(at + row);
                    let dot = match format {
                        Format::Q4_0 => _mm256_add_epi32(dots[row], _mm256_set1_epi32(total)),
                        Format::Q5_0 => _mm256_add_epi32(dots[row], _mm256_set1_epi32(2 * total)),
                        _ => dots[row],
                    };
                    let scale = _mm256_mul_ps(scale, _mm256_set1_ps(*tile.scales.as_ptr().add(at + row)));
                    acc[row] = _mm256_fmadd_ps(_mm256_cvtepi32_ps(dot), scale, acc[row]);
                    if layout.min > 0 {
                        let sum = _mm256_set1_ps(*tile.sums.as_ptr().add(at + row));
                        acc[row] = _mm256_fmadd_ps(min, sum, acc[row]);
                    }
                }
            }
        }
        store(acc, half, sums);
    }
}

/// Codes of 4 or 5 bits, four a lane.
///
/// # Safety
/// A panel block can be read.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn codes<const F: u8>(block: *const u8, half: usize) -> [__m256i; 8] {
    let layout = const { Format::of(F).layout() };
    let (nibble, bit) = (_mm256_set1_epi8(15), _mm256_set1_epi8(1));
    // SAFETY: the caller's promise.
    unsafe {
        std::array::from_fn(|group| {
            let pairs = load(block.add(layout.codes + group % 4 * 64 + half * 32));
            let code =
                _mm256_and_si256(if group < 4 { pairs } else { _mm256_srli_epi32::<4>(pairs) }, nibble);
            if layout.high == 0 {
                return code;
            }
            let bits = load(block.add(layout.high + half * 32));
            let bits = _mm256_and_si256(_mm256_srlv_epi32(bits, _mm256_set1_epi32(group as i32)), bit);
            _mm256_or_si256(code, _mm256_slli_epi32::<4>(bits))
        })
    }
}

/// Dot products of signed codes of 8 bits, kept with the sign bit turned.
///
/// # Safety
/// 8 vectors of weights 64 bytes apart, and 32 activations of each row, can be read.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn signed<const R: usize>(weights: *const u8, activations: *const i8) -> [__m256i; R] {
    let ones = _mm256_set1_epi16(1);
    let mut dots = [_mm256_setzero_si256(); R];
    for group in 0..8 {
        // SAFETY: the caller's promise.
        let codes = _mm256_xor_si256(unsafe { load(weights.add(group * 64)) }, _mm256_set1_epi8(i8::MIN));
        let sizes = _mm256_abs_epi8(codes);
        for (row, dot) in dots.iter_mut().enumerate() {
            // SAFETY: the caller's promise.
            let activations = unsafe { spread(activations.add(row * 32 + group * 4)) };
            let pairs = _mm256_maddubs_epi16(sizes, _mm256_sign_epi8(activations, codes));
            *dot = _mm256_add_epi32(*dot, _mm256_madd_epi16(pairs, ones));
        }
    }
    dots
}
