//! The products in plain Rust: what the SIMD kernels must equal bit for bit, and what runs where there is no SIMD.

use half::{bf16, f16};

use super::decode;
use super::format::{Format, LANES};
use super::input::{PAIRS, Tile};

/// The products of consecutive panels with the rows of a tile. `sums`: `[panels][rows]`.
pub(super) fn panels(format: Format, panels: &[u8], tile: &Tile<'_>, sums: &mut [[f32; LANES]]) {
    let bytes = tile.blocks * format.block_bytes() * LANES;
    for (bytes, sums) in panels.chunks_exact(bytes).zip(sums.chunks_exact_mut(tile.rows)) {
        panel(format, bytes, tile, sums);
    }
}

fn panel(format: Format, panel: &[u8], tile: &Tile<'_>, sums: &mut [[f32; LANES]]) {
    for sum in &mut *sums {
        *sum = [0.0; LANES];
    }
    match format {
        Format::F32 => floats(panel, tile, sums, f32::from_le_bytes),
        Format::F16 => floats(panel, tile, sums, |bytes| f16::from_le_bytes(bytes).to_f32()),
        Format::BF16 => floats(panel, tile, sums, |bytes| bf16::from_le_bytes(bytes).to_f32()),
        Format::Q4K | Format::Q5K | Format::Q6K => {
            for (at, block) in panel.chunks_exact(format.block_bytes() * LANES).enumerate() {
                for lane in 0..LANES {
                    block256(format, block, lane, at * tile.rows, tile, sums);
                }
            }
        }
        _ => {
            for (at, block) in panel.chunks_exact(format.block_bytes() * LANES).enumerate() {
                for lane in 0..LANES {
                    block32(format, block, lane, at * tile.rows, tile, sums);
                }
            }
        }
    }
}

fn floats<const BYTES: usize>(
    panel: &[u8],
    tile: &Tile<'_>,
    sums: &mut [[f32; LANES]],
    widen: impl Fn([u8; BYTES]) -> f32,
) {
    let (weights, _) = panel.as_chunks::<BYTES>();
    for (weights, values) in weights.chunks_exact(LANES).zip(tile.values.chunks_exact(tile.rows)) {
        for (sums, value) in sums.iter_mut().zip(values) {
            for (sum, weight) in sums.iter_mut().zip(weights) {
                *sum = widen(*weight).mul_add(*value, *sum);
            }
        }
    }
}

fn dot(codes: &[u8], activations: &[i8]) -> i32 {
    codes.iter().zip(activations).map(|(code, activation)| i32::from(*code) * i32::from(*activation)).sum()
}

fn block32(format: Format, block: &[u8], lane: usize, at: usize, tile: &Tile<'_>, sums: &mut [[f32; LANES]]) {
    let layout = format.layout();
    let codes = decode::codes32(format, block, lane);
    let scale = decode::half(block, layout.scale, lane);
    let min = (layout.min > 0).then(|| decode::half(block, layout.min, lane));
    for (row, sums) in sums.iter_mut().enumerate() {
        let at = at + row;
        let dot = dot(&codes, &tile.codes[at * 32..(at + 1) * 32]) + format.offset() / 8 * tile.totals[at];
        let sum = &mut sums[lane];
        *sum = (dot as f32).mul_add(scale * tile.scales[at], *sum);
        if let Some(min) = min {
            *sum = min.mul_add(tile.sums[at], *sum);
        }
    }
}

fn block256(
    format: Format,
    block: &[u8],
    lane: usize,
    at: usize,
    tile: &Tile<'_>,
    sums: &mut [[f32; LANES]],
) {
    let layout = format.layout();
    let codes = decode::codes256(format, block, lane);
    let scale = decode::half(block, layout.scale, lane);
    for (row, sums) in sums.iter_mut().enumerate() {
        let at = at + row;
        let activations = &tile.codes[at * 256..(at + 1) * 256];
        let sum = &mut sums[lane];
        if format == Format::Q6K {
            let totals = &tile.totals[at * 16..(at + 1) * 16];
            let whole: i32 = (0..16)
                .map(|part| {
                    let range = part * 16..(part + 1) * 16;
                    let dot = dot(&codes[range.clone()], &activations[range]) + totals[part];
                    i32::from(block[layout.scales + part * LANES + lane].cast_signed()) * dot
                })
                .sum();
            *sum = (whole as f32).mul_add(scale * tile.scales[at], *sum);
        } else {
            let (scales, mins) = decode::scales6(block, layout.scales, lane);
            let whole: i32 = (0..8)
                .map(|part| {
                    let range = part * 32..(part + 1) * 32;
                    i32::from(scales[part]) * dot(&codes[range.clone()], &activations[range])
                })
                .sum();
            let pairs = &tile.pairs[at * 8..(at + 1) * 8];
            let low: i32 =
                PAIRS.iter().zip(pairs).map(|(part, sum)| i32::from(mins[*part]) * i32::from(*sum)).sum();
            let min = decode::half(block, layout.min, lane);
            *sum = (whole as f32).mul_add(scale * tile.scales[at], *sum);
            *sum = (low as f32).mul_add(-(min * tile.scales[at]), *sum);
        }
    }
}
