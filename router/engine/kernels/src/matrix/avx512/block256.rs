//! Q4K, Q5K, Q6K: blocks of 256 weights in parts of 32 or 16, whose integer scales multiply the parts' integer sums.

use std::arch::x86_64::*;

use super::{load, load_halves, spread, store};
use crate::matrix::format::{Format, LANES, Six};
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

/// Repeats a block with `$name` a constant: shifts then have their distance in the instruction, and sums stay in registers.
macro_rules! each {
    ($name:ident in $($value:literal)*, $body:block) => {
        $({
            const $name: usize = $value;
            $body
        })*
    };
}

/// Keeps the compiler from loading the weights of later steps early: several rows leave no registers for them, and addresses that do not
/// ascend stop the core's prefetcher (11 GB/s in place of 30 from memory).
#[inline(always)]
fn in_order() {
    std::sync::atomic::compiler_fence(std::sync::atomic::Ordering::SeqCst);
}

/// Fetches the weights two steps ahead in order: passes over the same weights, for one quarter and then another, do not look like a stream.
#[inline]
#[target_feature(enable = "avx512f")]
fn ahead(from: *const u8) {
    for line in 0..12 {
        _mm_prefetch::<_MM_HINT_T0>(from.wrapping_add(1536 + line * 64).cast());
    }
}

/// Rows up to which the low and the high nibbles of a vector are multiplied at once, so that it is loaded once. With more rows the sums of
/// both do not fit the registers.
const BOTH: usize = 4;

/// Sums over the block of scale times code times activation, for Q4K and Q5K.
///
/// # Safety
/// A block of the panel and of `R` rows can be read.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,fma,f16c")]
unsafe fn whole45<const F: u8, const R: usize>(block: *const u8, codes: *const i8) -> [__m512i; R] {
    let layout = const { Format::of(F).layout() };
    let nibble = _mm512_set1_epi8(15);
    let bit = _mm512_set1_epi8(16);
    let mut whole = [_mm512_setzero_si512(); R];
    // SAFETY: the caller's promise.
    unsafe {
        let (words, _) = scales6(block.add(layout.scales));
        let add = |whole: &mut [__m512i; R], dots: [__m512i; R], scale: __m512i| {
            for row in 0..R {
                whole[row] = _mm512_add_epi32(whole[row], _mm512_mullo_epi32(dots[row], scale));
            }
        };
        let dot = |dots: &mut [__m512i; R], weights: __m512i, at: *const i8| {
            for row in 0..R {
                dots[row] = _mm512_dpbusd_epi32(dots[row], weights, spread(at.add(row * 256)));
            }
        };
        // Bit `2 * PAIR` and the next of each byte, at bit 4.
        let fifth = |block: *const u8, word: usize, shift: i32| {
            let bits = load(block.add(layout.high + word * 64));
            let bits = match shift {
                -4 => _mm512_slli_epi32::<4>(bits),
                -3 => _mm512_slli_epi32::<3>(bits),
                -2 => _mm512_slli_epi32::<2>(bits),
                -1 => _mm512_slli_epi32::<1>(bits),
                0 => bits,
                1 => _mm512_srli_epi32::<1>(bits),
                2 => _mm512_srli_epi32::<2>(bits),
                _ => _mm512_srli_epi32::<3>(bits),
            };
            _mm512_and_si512(bits, bit)
        };
        each!(PAIR in 0 1 2 3, {
                   in_order();
                   let low = |block: *const u8, word: usize| {
                       let low = _mm512_and_si512(load(block.add(layout.codes + (PAIR * 8 + word) * 64)), nibble);
                       if F == Format::Q5K as u8 { _mm512_or_si512(low, fifth(block, word, 2 * PAIR as i32 - 4)) } else { low }
                   };
                   let high = |block: *const u8, word: usize| {
                       let pairs = load(block.add(layout.codes + (PAIR * 8 + word) * 64));
                       let high = _mm512_and_si512(_mm512_srli_epi32::<4>(pairs), nibble);
                       if F == Format::Q5K as u8 { _mm512_or_si512(high, fifth(block, word, 2 * PAIR as i32 - 3)) } else { high }
                   };
                   let at = codes.add(PAIR * 64);
                   let byte = _mm512_set1_epi32(255);
                   let scales = _mm512_srli_epi32::<{ PAIR as u32 % 2 * 16 }>(words[PAIR / 2]);
                   let scales = [_mm512_and_si512(scales, byte), _mm512_and_si512(_mm512_srli_epi32::<8>(scales), byte)];
                   let (mut first, mut second) = ([_mm512_setzero_si512(); R], [_mm512_setzero_si512(); R]);
                   if R <= BOTH {
                       for word in 0..8 {
                           if R > 1 {
        in_order();
        }
                           dot(&mut first, low(block, word), at.add(word * 4));
                           dot(&mut second, high(block, word), at.add(32 + word * 4));
                       }
                       add(&mut whole, first, scales[0]);
                       add(&mut whole, second, scales[1]);
                   } else {
                       for word in 0..8 {
                           if R > 1 {
        in_order();
        }
                           dot(&mut first, low(block, word), at.add(word * 4));
                       }
                       add(&mut whole, first, scales[0]);

                       for word in 0..8 {
                           if R > 1 {
        in_order();
        }
                           let weights = high(block, word);
                           dot(&mut second, weights, at.add(32 + word * 4));
                       }
                       add(&mut whole, second, scales[1]);
                   }
               });
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
    let (nibble, two) = (_mm512_set1_epi8(15), _mm512_set1_epi8(0x30));
    let mut whole = [_mm512_setzero_si512(); R];
    // SAFETY: the caller's promise.
    unsafe {
        let start = |part: usize| -> [__m512i; R] {
            std::array::from_fn(|row| _mm512_set1_epi32(*totals.add(row * 16 + part)))
        };
        let dot = |dots: &mut [__m512i; R], weights: __m512i, at: *const i8| {
            for row in 0..R {
                dots[row] = _mm512_dpbusd_epi32(dots[row], weights, spread(at.add(row * 256)));
            }
        };
        let add = |whole: &mut [__m512i; R], dots: [__m512i; R], part: usize| {
            let scale = _mm512_cvtepi8_epi32(_mm_loadu_si128(block.add(layout.scales + part * LANES).cast()));
            for row in 0..R {
                whole[row] = _mm512_add_epi32(whole[row], _mm512_mullo_epi32(dots[row], scale));
            }
        };
        for quad in 0..4 {
            in_order();
            if R > BOTH {
                ahead(block.add(layout.codes + quad * 768));
            }
            // A half of 128 weights; in each of its four quarters the first or the second 16.
            let (half, side) = (quad / 2, quad % 2);
            let part = half * 8 + side;
            let pairs = |block: *const u8, quarter: usize, word: usize| {
                load(block.add(layout.codes + Six::low(half, quarter, side * 4 + word) * 64))
            };
            let weights = |pairs: __m512i, bits: __m512i, quarter: usize| match quarter {
                0 | 1 => _mm512_or_si512(_mm512_and_si512(pairs, nibble), _mm512_and_si512(bits, two)),
                _ => _mm512_or_si512(
                    _mm512_and_si512(_mm512_srli_epi32::<4>(pairs), nibble),
                    _mm512_and_si512(bits, two),
                ),
            };
            let bits = |block: *const u8, word: usize, quarter: usize| {
                let bits = load(block.add(layout.high + Six::high(half, side * 4 + word) * 64));
                match quarter {
                    0 => _mm512_slli_epi32::<4>(bits),
                    1 => _mm512_slli_epi32::<2>(bits),
                    2 => bits,
                    _ => _mm512_srli_epi32::<2>(bits),
                }
            };
            let at = codes.add(part * 16);
            if R <= BOTH {
                let mut dots = [start(part), start(part + 2), start(part + 4), start(part + 6)];
                for word in 0..4 {
                    if R > 1 {
                        in_order();
                    }
                    let at = at.add(word * 4);
                    let (even, odd) = (pairs(block, 0, word), pairs(block, 1, word));
                    dot(&mut dots[0], weights(even, bits(block, word, 0), 0), at);
                    dot(&mut dots[1], weights(odd, bits(block, word, 1), 1), at.add(32));
                    dot(&mut dots[2], weights(even, bits(block, word, 2), 2), at.add(64));
                    dot(&mut dots[3], weights(odd, bits(block, word, 3), 3), at.add(96));
                }
                let [a, b, c, d] = dots;
                add(&mut whole, a, part);
                add(&mut whole, b, part + 2);
                add(&mut whole, c, part + 4);
                add(&mut whole, d, part + 6);
            } else {
                each!(QUARTER in 0 1 2 3, {

                                   let mut dots = start(part + 2 * QUARTER);
                                   for word in 0..4 {
                                       if R > 1 {
                in_order();
                }
                                       let weights = weights(pairs(block, QUARTER, word), bits(block, word, QUARTER), QUARTER);
                                       dot(&mut dots, weights, at.add(QUARTER * 32 + word * 4));
                                   }
                                   add(&mut whole, dots, part + 2 * QUARTER);
                               });
            }
        }
    }
    whole
}
