//! The products with AVX-512 and VNNI: a register holds one value of each of the 16 outputs of a panel.
//!
//! `vpdpbusd` adds the dot product of four unsigned weights and four signed activations to each lane; the activations are four bytes of
//! memory that the instruction itself broadcasts. The offset of a format (weights are `code - offset`) enters as the initial value of the
//! integer sum, `-offset * sum of activations`.

mod block256;
mod block32;
mod floats;
mod quantise;

use std::arch::x86_64::*;

pub(super) use quantise::{quantise_q8, quantise_q8k};

use super::format::{Format, LANES};
use super::input::Tile;

/// The products of consecutive panels with the rows of a tile. `sums`: `[panels][rows]`; F32, F16, BF16: 1, 2 or 4 panels, others: 1.
///
/// # Safety
/// The CPU has what [`super::level::Level::Avx512`] stands for.
pub(super) unsafe fn panels(format: Format, panels: &[u8], tile: &Tile<'_>, sums: &mut [[f32; LANES]]) {
    let blocks = tile.blocks;
    let count = sums.len() / tile.rows;
    assert_eq!(sums.len(), count * tile.rows, "sums of whole tiles");
    assert_eq!(panels.len(), count * blocks * format.block_bytes() * LANES, "panels of the tile's inputs");
    tile.check(format.input_form());
    macro_rules! rows {
        ($kernel:ident, $($format:ident),*) => {
            // SAFETY: the features are the caller's promise, the sizes are those asserted.
            unsafe {
                match (format, tile.rows) {
                    $(
                        (Format::$format, 1) => $kernel::<{ Format::$format as u8 }, 1>(panels, tile, sums),
                        (Format::$format, 2) => $kernel::<{ Format::$format as u8 }, 2>(panels, tile, sums),
                        (Format::$format, 3) => $kernel::<{ Format::$format as u8 }, 3>(panels, tile, sums),
                        (Format::$format, 4) => $kernel::<{ Format::$format as u8 }, 4>(panels, tile, sums),
                        (Format::$format, 5) => $kernel::<{ Format::$format as u8 }, 5>(panels, tile, sums),
                        (Format::$format, 6) => $kernel::<{ Format::$format as u8 }, 6>(panels, tile, sums),
                        (Format::$format, 7) => $kernel::<{ Format::$format as u8 }, 7>(panels, tile, sums),
                        (Format::$format, 8) => $kernel::<{ Format::$format as u8 }, 8>(panels, tile, sums),
                    )*
                    _ => unreachable!("tiles of 1 to 8 rows"),
                }
            }
        };
    }
    use block32::panel as block32;
    use block256::panel as block256;
    use floats::panels as floats;
    match format {
        Format::F32 | Format::F16 | Format::BF16 => rows!(floats, F32, F16, BF16),
        Format::Q4K | Format::Q5K | Format::Q6K => rows!(block256, Q4K, Q5K, Q6K),
        _ => rows!(block32, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0),
    }
}

/// # Safety
/// 64 bytes can be read.
#[inline]
#[target_feature(enable = "avx512f")]
unsafe fn load(from: *const u8) -> __m512i {
    // SAFETY: the caller's promise.
    unsafe { _mm512_loadu_si512(from.cast()) }
}

/// 16 halves, widened.
///
/// # Safety
/// 32 bytes can be read.
#[inline]
#[target_feature(enable = "avx512f")]
unsafe fn load_halves(from: *const u8) -> __m512 {
    // SAFETY: the caller's promise.
    _mm512_cvtph_ps(unsafe { _mm256_loadu_si256(from.cast()) })
}

/// Four activations, in each lane.
///
/// # Safety
/// Four bytes can be read.
#[inline]
#[target_feature(enable = "avx512f")]
unsafe fn spread(from: *const i8) -> __m512i {
    // SAFETY: the caller's promise.
    _mm512_set1_epi32(unsafe { from.cast::<i32>().read_unaligned() })
}

/// # Safety
/// `sums` has 16 values for each row.
#[inline]
#[target_feature(enable = "avx512f")]
fn store<const R: usize>(from: [__m512; R], sums: &mut [[f32; LANES]]) {
    for (from, sum) in from.into_iter().zip(sums) {
        // SAFETY: a sum has 16 values.
        unsafe { _mm512_storeu_ps(sum.as_mut_ptr(), from) };
    }
}
