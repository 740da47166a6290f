//! F32, F16, BF16: fused multiply-adds in f32, one after another over the inputs.
//!
//! Each output is one chain of additions, so that several panels (and rows) go side by side to fill the pipeline. With several
//! tiles of rows the first to meet some weights would wait for memory and the others leave it idle: so each fetches its part of the
//! weights that come next.

use std::arch::x86_64::*;

use crate::matrix::format::{Format, LANES};
use crate::matrix::input::Tile;

/// The products of 1, 2 or 4 panels with `R` rows; `F` is the format.
///
/// # Safety
/// The CPU has the features; a panel and `tile` hold the same number of inputs, `tile` `R` rows.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,fma,f16c")]
pub(super) unsafe fn panels<const F: u8, const R: usize>(
    panels: &[u8],
    tile: &Tile<'_>,
    sums: &mut [[f32; LANES]],
) {
    // SAFETY: the caller's promise.
    unsafe {
        match sums.len() / R {
            1 => some::<F, R, 1>(panels, tile, sums),
            2 => some::<F, R, 2>(panels, tile, sums),
            4 => some::<F, R, 4>(panels, tile, sums),
            count => unreachable!("{count} panels at once"),
        }
    }
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,fma,f16c")]
unsafe fn some<const F: u8, const R: usize, const P: usize>(
    panels: &[u8],
    tile: &Tile<'_>,
    sums: &mut [[f32; LANES]],
) {
    let bytes = const { Format::of(F).block_bytes() } * LANES;
    let (mut weights, mut values) = (panels.as_ptr(), tile.values.as_ptr());
    let stride = bytes * tile.blocks;
    let (mut next, step) = match tile.next {
        [] => (panels.as_ptr(), 0),
        next => (next.as_ptr(), next.len() / tile.blocks),
    };
    let mut acc = [[_mm512_setzero_ps(); R]; P];
    // SAFETY: `P` panels of `blocks` inputs, and as many inputs of `R` rows, can be read.
    unsafe {
        for _ in 0..tile.blocks {
            _mm_prefetch::<_MM_HINT_T1>(next.cast());
            next = next.wrapping_add(step);
            let weight: [__m512; P] = std::array::from_fn(|panel| load::<F>(weights.add(panel * stride)));
            for row in 0..R {
                let value = _mm512_set1_ps(*values.add(row));
                for panel in 0..P {
                    acc[panel][row] = _mm512_fmadd_ps(weight[panel], value, acc[panel][row]);
                }
            }
            weights = weights.add(bytes);
            values = values.add(R);
        }
    }
    for (acc, sums) in acc.into_iter().zip(sums.chunks_exact_mut(R)) {
        super::store(acc, sums);
    }
}

/// # Safety
/// 16 weights can be read.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,f16c")]
unsafe fn load<const F: u8>(from: *const u8) -> __m512 {
    // SAFETY: the caller's promise.
    unsafe {
        match const { Format::of(F) } {
            Format::F32 => _mm512_loadu_ps(from.cast()),
            Format::F16 => super::load_halves(from),
            _ => {
                let halves = _mm512_cvtepu16_epi32(_mm256_loadu_si256(from.cast()));
                _mm512_castsi512_ps(_mm512_slli_epi32::<16>(halves))
            }
        }
    }
}
