//! Q4K, Q5K, Q6K: blocks of 256 weights in parts of 32 or 16, whose integer scales multiply the parts' integer sums.

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
    let layout = const { Format::of(F).layout() };
    let (mut block, mut codes) = (panel.as_ptr(), tile.codes.as_ptr());
    let (mut scales, mut totals, mut pairs) =
        (tile.scales.as_ptr(), tile.totals.as_ptr(), tile.pairs.as_ptr());
    let mut acc = [_mm512_setzero_ps(); R];
    // SAFETY: the pointers advance by one block each time, and there are `blocks` of them; offsets stay inside a block.
    unsafe {
        for _ in 0..tile.blocks {
            let whole = if F == Format::Q6K as u8 {
                whole6::<R>(block, codes, totals)
            } else {
                whole45::<F, R>(block, codes)
            };
            let scale = load_halves(block.add(layout.scale));
            for row in 0..R {
                let scale = _mm512_mul_ps(scale, _mm512_set1_ps(*scales.add(row)));
                acc[row] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(whole[row]), scale, acc[row]);
            }
            if layout.min > 0 {
                let (_, mins) = scales6(block.add(layout.scales));
                let even = _mm512_set1_epi32(0x00ff_00ff);
                let mins = [
                    _mm512_and_si512(mins[0], even),
                    _mm512_and_si512(_mm512_srli_epi32::<8>(mins[0]), even),
                    _mm512_and_si512(mins[1], even),
                    _mm512_and_si512(_mm512_srli_epi32::<8>(mins[1]), even),
                ];
                let min = load_halves(block.add(layout.min));
                for row in 0..R {
                    let mut low = _mm512_setzero_si512();
                    for (pair, mins) in mins.into_iter().enumerate() {
                        low = _mm512_dpwssd_epi32(low, mins, spread(pairs.add(row * 8 + pair * 2).cast()));
                    }
                    let min = _mm512_mul_ps(min, _mm512_set1_ps(*scales.add(row)));
                    acc[row] = _mm512_fnmadd_ps(_mm512_cvtepi32_ps(low), min, acc[row]);
                }
            }
            block = block.add(const { Format::of(F).block_bytes() } * LANES);
            codes = codes.add(R * 256);
            scales = scales.add(R);
            totals = totals.add(R * 16);
            pairs = pairs.add(R * 8);
        }
    }
    store(acc, sums);
}

/// Byte `i` of a lane: scales (0..4, 4..8) and mins (0..4, 4..8) of part `i`; ggml packs 16 numbers of 6 bits into 12 bytes.
///
/// # Safety
/// 192 bytes can be read.
#[inline]
#[target_feature(enable = "avx512f")]
unsafe fn scales6(from: *const u8) -> ([__m512i; 2], [__m512i; 2]) {
    // SAFETY: the caller's promise.
    let [a, b, c] = unsafe { [load(from), load(from.add(64)), load(from.add(128))] };
    let (six, four, top) =
        (_mm512_set1_epi32(0x3f3f_3f3f), _mm512_set1_epi32(0x0f0f_0f0f), _mm512_set1_epi32(0x3030_3030));
    // The upper two bits of a byte, at bits 4 and 5.
    let upper = |word: __m512i| _mm512_and_si512(_mm512_srli_epi32::<2>(word), top);
    let scales = [_mm512_and_si512(a, six), _mm512_or_si512(_mm512_and_si512(c, four), upper(a))];
    let low = _mm512_and_si512(_mm512_srli_epi32::<4>(c), four);
    let mins = [_mm512_and_si512(b, six), _mm512_or_si512(low, upper(b))];
    (scales, mins)
}

/// Sums over the block of scale times code times activation, for Q4K and Q5K.
///
/// # Safety
/// A block of the panel and of `R` rows can be read.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,fma,f16c")]
unsafe fn whole45<const F: u8, const R: usize>(block: *const u8, codes: *const i8) -> [__m512i; R] {
    let layout = const { Format::of(F).layout() };
    let mask = _mm512_set1_epi8(15);
    let mut whole = [_mm512_setzero_si512(); R];
    // SAFETY: the caller's promise.
    unsafe {
        let (words, _) = scales6(block.add(layout.scales));
        for part in 0..8 {
            let mut dots = [_mm512_setzero_si512(); R];
            for word in 0..8 {
                let raw = load(block.add(layout.codes + (part / 2 * 8 + word) * 64));
                let raw = if part % 2 == 0 { raw } else { _mm512_srli_epi32::<4>(raw) };
                let mut weights = _mm512_and_si512(raw, mask);
                if F == Format::Q5K as u8 {
                    let bits = load(block.add(layout.high + word * 64));
                    let bits = if part < 4 {
                        _mm512_sllv_epi32(bits, _mm512_set1_epi32(4 - part as i32))
                    } else {
                        _mm512_srlv_epi32(bits, _mm512_set1_epi32(part as i32 - 4))
                    };
                    weights = _mm512_or_si512(weights, _mm512_and_si512(bits, _mm512_set1_epi8(16)));
                }
                for row in 0..R {
                    let at = codes.add(row * 256 + part * 32 + word * 4);
                    dots[row] = _mm512_dpbusd_epi32(dots[row], weights, spread(at));
                }
            }
            let shifted = _mm512_srlv_epi32(words[part / 4], _mm512_set1_epi32((part % 4 * 8) as i32));
            let scale = _mm512_and_si512(shifted, _mm512_set1_epi32(255));
            for row in 0..R {
                whole[row] = _mm512_add_epi32(whole[row], _mm512_mullo_epi32(dots[row], scale));
            }
        }
    }
    whole
}

/// Sums over the block of scale times (code - 32) times activation, for Q6K. `totals` are kept times -32.
///
/// # Safety
/// A block of the panel and of `R` rows can be read.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,fma,f16c")]
unsafe fn whole6<const R: usize>(block: *const u8, codes: *const i8, totals: *const i32) -> [__m512i; R] {
    let layout = const { Format::Q6K.layout() };
    let mask = _mm512_set1_epi8(15);
    let mut whole = [_mm512_setzero_si512(); R];
    // SAFETY: the caller's promise.
    unsafe {
        for part in 0..16 {
            let (half, quarter, first) = (part / 8, part % 8 / 2, part % 2 * 4);
            let mut dots: [__m512i; R] =
                std::array::from_fn(|row| _mm512_set1_epi32(*totals.add(row * 16 + part)));
            for word in first..first + 4 {
                let raw = load(block.add(layout.codes + (half * 16 + quarter % 2 * 8 + word) * 64));
                let raw = if quarter < 2 { raw } else { _mm512_srli_epi32::<4>(raw) };
                let bits = load(block.add(layout.high + (half * 8 + word) * 64));
                let bits = match quarter {
                    0 => _mm512_slli_epi32::<4>(bits),
                    1 => _mm512_slli_epi32::<2>(bits),
                    2 => bits,
                    _ => _mm512_srli_epi32::<2>(bits),
                };
                let high = _mm512_and_si512(bits, _mm512_set1_epi8(0x30));
                let weights = _mm512_or_si512(_mm512_and_si512(raw, mask), high);
                for row in 0..R {
                    let at = codes.add(row * 256 + part * 16 + (word - first) * 4);
                    dots[row] = _mm512_dpbusd_epi32(dots[row], weights, spread(at));
                }
            }
            let scale = _mm512_cvtepi8_epi32(_mm_loadu_si128(block.add(layout.scales + part * LANES).cast()));
            for row in 0..R {
                whole[row] = _mm512_add_epi32(whole[row], _mm512_mullo_epi32(dots[row], scale));
            }
        }
    }
    whole
}
