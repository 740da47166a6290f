//! The products with AVX2: the panels are those of AVX-512, taken in two halves of 8 outputs.
//!
//! `vpmaddubsw` multiplies unsigned weights by signed activations and adds pairs into 16 bits, saturating. Codes of 4, 5 and 6 bits are so small
//! that 8, 4 and 2 such sums fit 16 bits (15 * 127 * 2 * 8 = 30480, 31 * 127 * 2 * 4 = 31496, 63 * 127 * 2 * 2 = 32004). For 8 bits the sign
//! of a weight moves to the activation (128 * 127 * 2 = 32512).
//!
//! There are 16 registers, so that a pass takes up to [`ROWS`] rows of a tile.

#![expect(
    clippy::needless_range_loop,
    reason = "a row indexes arrays of registers and offsets of memory alike"
)]

mod block256;
mod block32;
mod floats;

use std::arch::x86_64::*;

use super::format::{Format, LANES};
use super::input::Tile;

/// Rows of a pass.
const ROWS: usize = 4;

/// The products of consecutive panels with the rows of a tile. `sums`: `[panels][rows]`.
///
/// # Safety
/// The CPU has what [`super::level::Level::Avx2`] stands for.
pub(super) unsafe fn panels(format: Format, panels: &[u8], tile: &Tile<'_>, sums: &mut [[f32; LANES]]) {
    let count = sums.len() / tile.rows;
    let bytes = tile.blocks * format.block_bytes() * LANES;
    assert_eq!(sums.len(), count * tile.rows, "sums of whole tiles");
    assert_eq!(panels.len(), count * bytes, "panels of the tile's inputs");
    tile.check(format.input_form());
    macro_rules! pass {
        ($kernel:ident, $($format:ident),*) => {
            for (panel, sums) in panels.chunks_exact(bytes).zip(sums.chunks_exact_mut(tile.rows)) {
                for (pass, sums) in sums.chunks_mut(ROWS).enumerate() {
                    let first = pass * ROWS;
                    // SAFETY: the features are the caller's promise, the sizes are those asserted.
                    unsafe {
                        match (format, sums.len()) {
                            $(
                                (Format::$format, 1) => $kernel::<{ Format::$format as u8 }, 1>(panel, tile, first, sums),
                                (Format::$format, 2) => $kernel::<{ Format::$format as u8 }, 2>(panel, tile, first, sums),
                                (Format::$format, 3) => $kernel::<{ Format::$format as u8 }, 3>(panel, tile, first, sums),
                                (Format::$format, _) => $kernel::<{ Format::$format as u8 }, 4>(panel, tile, first, sums),
                            )*
                            _ => unreachable!("a format of another kernel"),
                        }
                    }
                }
            }
        };
    }
    use block32::panel as block32;
    use block256::panel as block256;
    use floats::panel as floats;
    match format {
        Format::F32 | Format::F16 | Format::BF16 => pass!(floats, F32, F16, BF16),
        Format::Q4K | Format::Q5K | Format::Q6K => pass!(block256, Q4K, Q5K, Q6K),
        _ => pass!(block32, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0),
    }
}

/// # Safety
/// 32 bytes can be read.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn load(from: *const u8) -> __m256i {
    // SAFETY: the caller's promise.
    unsafe { _mm256_loadu_si256(from.cast()) }
}

/// 8 halves, widened.
///
/// # Safety
/// 16 bytes can be read.
#[inline]
#[target_feature(enable = "avx2,f16c")]
unsafe fn load_halves(from: *const u8) -> __m256 {
    // SAFETY: the caller's promise.
    _mm256_cvtph_ps(unsafe { _mm_loadu_si128(from.cast()) })
}

/// Four activations, in each lane.
///
/// # Safety
/// Four bytes can be read.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn spread(from: *const i8) -> __m256i {
    // SAFETY: the caller's promise.
    _mm256_set1_epi32(unsafe { from.cast::<i32>().read_unaligned() })
}

/// The dot products of `GROUPS` vectors of four codes with the activations of `R` rows, `stride` apart. `FOLD` of them fit 16 bits.
///
/// # Safety
/// The activations can be read.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn dots<const R: usize, const GROUPS: usize, const FOLD: usize>(
    codes: [__m256i; GROUPS],
    activations: *const i8,
    stride: usize,
) -> [__m256i; R] {
    let ones = _mm256_set1_epi16(1);
    let mut dots = [_mm256_setzero_si256(); R];
    for (fold, codes) in codes.chunks(FOLD).enumerate() {
        for row in 0..R {
            let mut sum = _mm256_setzero_si256();
            for (group, codes) in codes.iter().enumerate() {
                // SAFETY: the caller's promise.
                let activations =
                    unsafe { spread(activations.add(row * stride + (fold * FOLD + group) * 4)) };
                sum = _mm256_add_epi16(sum, _mm256_maddubs_epi16(*codes, activations));
            }
            dots[row] = _mm256_add_epi32(dots[row], _mm256_madd_epi16(sum, ones));
        }
    }
    dots
}

/// Half of the lanes of each row.
#[inline]
#[target_feature(enable = "avx2")]
fn store<const R: usize>(from: [__m256; R], half: usize, sums: &mut [[f32; LANES]]) {
    for (from, sum) in from.into_iter().zip(sums) {
        // SAFETY: a half of a sum has 8 values.
        unsafe { _mm256_storeu_ps(sum[half * 8..half * 8 + 8].as_mut_ptr(), from) };
    }
}
