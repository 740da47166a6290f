//! Q4_0, Q4_1, Q5_0, Q5_1, Q8_0: blocks of 32 weights with their own scale.

use std::arch::x86_64::*;

use super::{load, load_halves, spread, store};
use crate::matrix::format::{Format, LANES};
use crate::matrix::input::Tile;

/// The products of a panel with `R` rows; `F` is the format.
///
/// # Safety
/// The CPU has the features; `panel` and `tile` hold the same number of blocks, `tile` `R` rows.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,fma,f16c")]
pub(super) unsafe fn panel<const F: u8, const R: usize>(
    panel: &[u8],
    tile: &Tile<'_>,
    sums: &mut [[f32; LANES]],
) {
    let format = const { Format::of(F) };
    let layout = const { Format::of(F).layout() };
    let (mut block, mut codes) = (panel.as_ptr(), tile.codes.as_ptr());
    let (mut scales, mut lows, mut totals) = (tile.scales.as_ptr(), tile.sums.as_ptr(), tile.totals.as_ptr());
    let mut acc = [_mm512_setzero_ps(); R];
    // SAFETY: the pointers advance by one block each time, and there are `blocks` of them; offsets stay inside a block.
    unsafe {
        for _ in 0..tile.blocks {
            let mut dots: [__m512i; R] = std::array::from_fn(|row| match format {
                // Totals are kept times -8.
                Format::Q4_0 => _mm512_set1_epi32(*totals.add(row)),
                Format::Q5_0 => _mm512_slli_epi32::<1>(_mm512_set1_epi32(*totals.add(row))),
                Format::Q8_0 => _mm512_slli_epi32::<4>(_mm512_set1_epi32(*totals.add(row))),
                _ => _mm512_setzero_si512(),
            });
            if let Format::Q8_0 = format {
                for word in 0..8 {
                    let weights = load(block.add(layout.codes + word * 64));
                    for row in 0..R {
                        dots[row] =
                            _mm512_dpbusd_epi32(dots[row], weights, spread(codes.add(row * 32 + word * 4)));
                    }
                }
            } else {
                let high =
                    if layout.high > 0 { load(block.add(layout.high)) } else { _mm512_setzero_si512() };
                for word in 0..4 {
                    let (low, up) = nibbles(load(block.add(layout.codes + word * 64)));
                    let (low, up) = if layout.high > 0 {
                        let bits = |bits: __m512i| _mm512_and_si512(bits, _mm512_set1_epi8(16));
                        // Bit `word` of each byte to bit 4, then bit `word + 4`.
                        let first = _mm512_sllv_epi32(high, _mm512_set1_epi32(4 - word as i32));
                        let second = _mm512_srlv_epi32(high, _mm512_set1_epi32(word as i32));
                        (_mm512_or_si512(low, bits(first)), _mm512_or_si512(up, bits(second)))
                    } else {
                        (low, up)
                    };
                    for row in 0..R {
                        let at = codes.add(row * 32 + word * 4);
                        dots[row] = _mm512_dpbusd_epi32(dots[row], low, spread(at));
                        dots[row] = _mm512_dpbusd_epi32(dots[row], up, spread(at.add(16)));
                    }
                }
            }
            let scale = load_halves(block.add(layout.scale));
            for row in 0..R {
                let scale = _mm512_mul_ps(scale, _mm512_set1_ps(*scales.add(row)));
                acc[row] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(dots[row]), scale, acc[row]);
            }
            if layout.min > 0 {
                let min = load_halves(block.add(layout.min));
                for row in 0..R {
                    acc[row] = _mm512_fmadd_ps(min, _mm512_set1_ps(*lows.add(row)), acc[row]);
                }
            }
            block = block.add(format.block_bytes() * LANES);
            codes = codes.add(R * 32);
            scales = scales.add(R);
            lows = lows.add(R);
            totals = totals.add(R);
        }
    }
    store(acc, sums);
}

/// Low and high nibbles of each byte.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
pub(super) fn nibbles(pairs: __m512i) -> (__m512i, __m512i) {
    let mask = _mm512_set1_epi8(15);
    (_mm512_and_si512(pairs, mask), _mm512_and_si512(_mm512_srli_epi32::<4>(pairs), mask))
}
