//! F32, F16, BF16: fused multiply-adds in f32, one after another over the inputs.

use std::arch::x86_64::*;

use super::{load_halves, store};
use crate::matrix::format::{Format, LANES};
use crate::matrix::input::Tile;

/// The products of a panel with `R` rows of a tile from row `first` on; `F` is the format.
///
/// # Safety
/// The CPU has the features; `panel` and `tile` hold the same number of inputs, `tile` at least `first + R` rows.
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) unsafe fn panel<const F: u8, const R: usize>(
    panel: &[u8],
    tile: &Tile<'_>,
    first: usize,
    sums: &mut [[f32; LANES]],
) {
    let bytes = const { Format::of(F).block_bytes() } * LANES;
    let (mut low, mut high) = ([_mm256_setzero_ps(); R], [_mm256_setzero_ps(); R]);
    for input in 0..tile.blocks {
        // SAFETY: the input is in the panel and in the tile.
        unsafe {
            let weights = panel.as_ptr().add(input * bytes);
            let (first_half, second_half) = (load::<F>(weights), load::<F>(weights.add(bytes / 2)));
            let values = tile.values.as_ptr().add(input * tile.rows + first);
            for row in 0..R {
                let value = _mm256_set1_ps(*values.add(row));
                low[row] = _mm256_fmadd_ps(first_half, value, low[row]);
                high[row] = _mm256_fmadd_ps(second_half, value, high[row]);
            }
        }
    }
    store(low, 0, sums);
    store(high, 1, sums);
}

/// # Safety
/// 8 weights can be read.
#[inline]
#[target_feature(enable = "avx2,f16c")]
unsafe fn load<const F: u8>(from: *const u8) -> __m256 {
    // SAFETY: the caller's promise.
    unsafe {
        match const { Format::of(F) } {
            Format::F32 => _mm256_loadu_ps(from.cast()),
            Format::F16 => load_halves(from),
            _ => {
                let halves = _mm256_cvtepu16_epi32(_mm_loadu_si128(from.cast()));
                _mm256_castsi256_ps(_mm256_slli_epi32::<16>(halves))
            }
        }
    }
}
