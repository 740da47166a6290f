//! Q4K, Q5K, Q6K: blocks of 256 weights in parts of 32 or 16, whose integer scales multiply the parts' integer sums.

use std::arch::x86_64::*;

use super::{dots, load, load_halves, spread, store};
use crate::matrix::format::{Format, LANES, Six};
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
                let activations = tile.codes.as_ptr().add(at * 256);
                let whole: [__m256i; R] = match format {
                    Format::Q6K => whole6(block, half, activations, tile.totals.as_ptr().add(at * 16)),
                    _ => whole45::<F, R>(block, half, activations),
                };
                let scale = load_halves(block.add(layout.scale + half * 16));
                for row in 0..R {
                    let scale = _mm256_mul_ps(scale, _mm256_set1_ps(*tile.scales.as_ptr().add(at + row)));
                    acc[row] = _mm256_fmadd_ps(_mm256_cvtepi32_ps(whole[row]), scale, acc[row]);
                }
                if layout.min > 0 {
                    let (_, mins) = scales6(block.add(layout.scales + half * 32));
                    let even = _mm256_set1_epi32(0x00ff_00ff);
                    let mins = [
                        _mm256_and_si256(mins[0], even),
                        _mm256_and_si256(_mm256_srli_epi32::<8>(mins[0]), even),
                        _mm256_and_si256(mins[1], even),
                        _mm256_and_si256(_mm256_srli_epi32::<8>(mins[1]), even),
                    ];
                    let min = load_halves(block.add(layout.min + half * 16));
                    for row in 0..R {
                        let mut low = _mm256_setzero_si256();
                        for (pair, mins) in mins.into_iter().enumerate() {
                            let sums = spread(tile.pairs.as_ptr().add((at + row) * 8 + pair * 2).cast());
                            low = _mm256_add_epi32(low, _mm256_madd_epi16(mins, sums));
                        }
                        let min = _mm256_mul_ps(min, _mm256_set1_ps(*tile.scales.as_ptr().add(at + row)));
                        acc[row] = _mm256_fnmadd_ps(_mm256_cvtepi32_ps(low), min, acc[row]);
                    }
                }
            }
        }
        store(acc, half, sums);
    }
}

/// Byte `i` of a lane: scales (0..4, 4..8) and mins (0..4, 4..8) of part `i`; ggml packs 16 numbers of 6 bits into 12 bytes.
///
/// # Safety
/// 160 bytes can be read.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn scales6(from: *const u8) -> ([__m256i; 2], [__m256i; 2]) {
    // SAFETY: the caller's promise.
    let [a, b, c] = unsafe { [load(from), load(from.add(64)), load(from.add(128))] };
    let (six, four, top) =
        (_mm256_set1_epi32(0x3f3f_3f3f), _mm256_set1_epi32(0x0f0f_0f0f), _mm256_set1_epi32(0x3030_3030));
    // The upper two bits of a byte, at bits 4 and 5.
    let upper = |word: __m256i| _mm256_and_si256(_mm256_srli_epi32::<2>(word), top);
    let scales = [_mm256_and_si256(a, six), _mm256_or_si256(_mm256_and_si256(c, four), upper(a))];
    let low = _mm256_and_si256(_mm256_srli_epi32::<4>(c), four);
    let mins = [_mm256_and_si256(b, six), _mm256_or_si256(low, upper(b))];
    (scales, mins)
}

/// Sums over the block of scale times code times activation, for Q4K and Q5K.
///
/// # Safety
/// A block of the panel and of `R` rows can be read.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn whole45<const F: u8, const R: usize>(
    block: *const u8,
    half: usize,
    activations: *const i8,
) -> [__m256i; R] {
    let layout = const { Format::of(F).layout() };
    let (nibble, bit) = (_mm256_set1_epi8(15), _mm256_set1_epi8(1));
    let mut whole = [_mm256_setzero_si256(); R];
    // SAFETY: the caller's promise.
    unsafe {
        let (scales, _) = scales6(block.add(layout.scales + half * 32));
        for part in 0..8 {
            let shift = _mm_cvtsi32_si128(part as i32 % 2 * 4);
            let codes: [__m256i; 8] = std::array::from_fn(|word| {
                let pairs = load(block.add(layout.codes + (part / 2 * 8 + word) * 64 + half * 32));
                let code = _mm256_and_si256(_mm256_srl_epi32(pairs, shift), nibble);
                if layout.high == 0 {
                    return code;
                }
                let bits = load(block.add(layout.high + word * 64 + half * 32));
                let bits = _mm256_and_si256(_mm256_srl_epi32(bits, _mm_cvtsi32_si128(part as i32)), bit);
                _mm256_or_si256(code, _mm256_slli_epi32::<4>(bits))
            });
            let at = activations.add(part * 32);
            let dots: [__m256i; R] = if layout.high == 0 {
                dots::<R, 8, 8>(codes, at, 256)
            } else {
                dots::<R, 8, 4>(codes, at, 256)
            };
            let scale = _mm256_srl_epi32(scales[part / 4], _mm_cvtsi32_si128(part as i32 % 4 * 8));
            let scale = _mm256_and_si256(scale, _mm256_set1_epi32(255));
            for (whole, dot) in whole.iter_mut().zip(dots) {
                *whole = _mm256_add_epi32(*whole, _mm256_mullo_epi32(dot, scale));
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
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn whole6<const R: usize>(
    block: *const u8,
    half: usize,
    activations: *const i8,
    totals: *const i32,
) -> [__m256i; R] {
    let layout = const { Format::Q6K.layout() };
    let (nibble, two) = (_mm256_set1_epi8(15), _mm256_set1_epi8(3));
    let mut whole = [_mm256_setzero_si256(); R];
    // SAFETY: the caller's promise.
    unsafe {
        for part in 0..16 {
            let (hundred, quarter, first) = (part / 8, part % 8 / 2, part % 2 * 4);
            let codes: [__m256i; 4] = std::array::from_fn(|word| {
                let word = first + word;
                let at = layout.codes + Six::low(hundred, quarter, word) * 64 + half * 32;
                let pairs = _mm256_srl_epi32(load(block.add(at)), _mm_cvtsi32_si128(quarter as i32 / 2 * 4));
                let bits = load(block.add(layout.high + Six::high(hundred, word) * 64 + half * 32));
                let bits =
                    _mm256_and_si256(_mm256_srl_epi32(bits, _mm_cvtsi32_si128(quarter as i32 * 2)), two);
                _mm256_or_si256(_mm256_and_si256(pairs, nibble), _mm256_slli_epi32::<4>(bits))
            });
            let dots: [__m256i; R] = dots::<R, 4, 2>(codes, activations.add(part * 16), 256);
            let scale = block.add(layout.scales + part * LANES + half * 8);
            let scale = _mm256_cvtepi8_epi32(_mm_loadl_epi64(scale.cast()));
            for (row, dot) in dots.into_iter().enumerate() {
                let dot = _mm256_add_epi32(dot, _mm256_set1_epi32(*totals.add(row * 16 + part)));
                whole[row] = _mm256_add_epi32(whole[row], _mm256_mullo_epi32(dot, scale));
            }
        }
    }
    whole
}
