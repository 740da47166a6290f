//! From rows of a file to panels of 16 outputs, and back to one row.

use half::{bf16, f16};

use super::decode;
use super::format::{Format, LANES, Six};

/// Bytes of a panel of `inputs` weights for each of its outputs.
pub(super) fn panel_bytes(format: Format, inputs: usize) -> usize {
    inputs / format.block() * format.block_bytes() * LANES
}

/// Packs the rows of a panel (16, or fewer in the last panel: the other lanes keep the zeros that `panel` holds).
pub(super) fn pack_panel(format: Format, rows: &[u8], row_bytes: usize, panel: &mut [u8]) {
    match format {
        Format::F32 => transpose::<4>(rows, row_bytes, panel),
        Format::F16 | Format::BF16 => transpose::<2>(rows, row_bytes, panel),
        _ => {
            let bytes = format.block_bytes();
            for (index, target) in panel.chunks_exact_mut(bytes * LANES).enumerate() {
                for (lane, row) in rows.chunks_exact(row_bytes).enumerate() {
                    pack_block(format, &row[index * bytes..(index + 1) * bytes], target, lane);
                }
            }
        }
    }
}

fn transpose<const BYTES: usize>(rows: &[u8], row_bytes: usize, panel: &mut [u8]) {
    for (lane, row) in rows.chunks_exact(row_bytes).enumerate() {
        let (weights, _) = row.as_chunks::<BYTES>();
        let (targets, _) = panel.as_chunks_mut::<BYTES>();
        for (weight, target) in weights.iter().zip(targets.iter_mut().skip(lane).step_by(LANES)) {
            *target = *weight;
        }
    }
}

fn pack_block(format: Format, block: &[u8], target: &mut [u8], lane: usize) {
    let layout = format.layout();
    let mut half =
        |at: usize, from: usize| target[at + lane * 2..][..2].copy_from_slice(&block[from..from + 2]);
    match format {
        Format::F32 | Format::F16 | Format::BF16 => {}
        Format::Q4_0 => {
            half(layout.scale, 0);
            words(&block[2..], &mut target[layout.codes..], lane);
        }
        Format::Q4_1 => {
            half(layout.scale, 0);
            half(layout.min, 2);
            words(&block[4..], &mut target[layout.codes..], lane);
        }
        Format::Q5_0 => {
            half(layout.scale, 0);
            fifth_bits(&block[2..6], &mut target[layout.high..], lane);
            words(&block[6..], &mut target[layout.codes..], lane);
        }
        Format::Q5_1 => {
            half(layout.scale, 0);
            half(layout.min, 2);
            fifth_bits(&block[4..8], &mut target[layout.high..], lane);
            words(&block[8..], &mut target[layout.codes..], lane);
        }
        Format::Q8_0 => {
            half(layout.scale, 0);
            let mut codes = [0; 32];
            for (code, byte) in codes.iter_mut().zip(&block[2..]) {
                *code = byte ^ 0x80;
            }
            words(&codes, &mut target[layout.codes..], lane);
        }
        Format::Q4K => {
            half(layout.scale, 0);
            half(layout.min, 2);
            words(&block[4..16], &mut target[layout.scales..], lane);
            words(&block[16..], &mut target[layout.codes..], lane);
        }
        Format::Q5K => {
            half(layout.scale, 0);
            half(layout.min, 2);
            words(&block[4..16], &mut target[layout.scales..], lane);
            words(&block[16..48], &mut target[layout.high..], lane);
            words(&block[48..], &mut target[layout.codes..], lane);
        }
        Format::Q6K => {
            half(layout.scale, 208);
            for (part, scale) in block[192..208].iter().enumerate() {
                target[layout.scales + part * LANES + lane] = *scale;
            }
            let mut word = |from: usize, to: usize| {
                let to = layout.codes + to * LANES * 4 + lane * 4;
                target[to..to + 4].copy_from_slice(&block[from * 4..from * 4 + 4]);
            };
            for index in 0..16 {
                let (half, at) = (index / 8, index % 8);
                word(half * 16 + at, Six::low(half, 0, at));
                word(half * 16 + 8 + at, Six::low(half, 1, at));
                word(32 + index, Six::high(half, at));
            }
        }
    }
}

/// Word `w` of `block` becomes lane `lane` of vector `w`.
fn words(block: &[u8], target: &mut [u8], lane: usize) {
    let (words, _) = block.as_chunks::<4>();
    let (targets, _) = target.as_chunks_mut::<4>();
    for (word, target) in words.iter().zip(targets.iter_mut().skip(lane).step_by(LANES)) {
        *target = *word;
    }
}

/// ggml's bit 4t + i becomes bit t of byte i: one shift then brings the fifth bits of a vector of four weights to their bytes.
fn fifth_bits(block: &[u8], target: &mut [u8], lane: usize) {
    let bits = u32::from_le_bytes([block[0], block[1], block[2], block[3]]);
    for byte in 0..4 {
        target[lane * 4 + byte] = (0..8).fold(0, |sum, t| sum | ((bits >> (4 * t + byte) & 1) as u8) << t);
    }
}

/// The weights of one output, dequantised.
pub(super) fn unpack_row(format: Format, panel: &[u8], lane: usize, out: &mut [f32]) {
    match format {
        Format::F32 => {
            let (weights, _) = panel.as_chunks::<4>();
            for (out, weight) in out.iter_mut().zip(weights.iter().skip(lane).step_by(LANES)) {
                *out = f32::from_le_bytes(*weight);
            }
        }
        Format::F16 | Format::BF16 => {
            let (weights, _) = panel.as_chunks::<2>();
            for (out, weight) in out.iter_mut().zip(weights.iter().skip(lane).step_by(LANES)) {
                *out = if format == Format::F16 {
                    f16::from_le_bytes(*weight).to_f32()
                } else {
                    bf16::from_le_bytes(*weight).to_f32()
                };
            }
        }
        _ => {
            let blocks = panel.chunks_exact(format.block_bytes() * LANES);
            for (block, out) in blocks.zip(out.chunks_exact_mut(format.block())) {
                unpack_block(format, block, lane, out);
            }
        }
    }
}

fn unpack_block(format: Format, block: &[u8], lane: usize, out: &mut [f32]) {
    let layout = format.layout();
    let scale = decode::half(block, layout.scale, lane);
    match format {
        Format::Q4_0 | Format::Q5_0 | Format::Q8_0 => {
            for (out, code) in out.iter_mut().zip(decode::codes32(format, block, lane)) {
                *out = scale * (i32::from(code) - format.offset()) as f32;
            }
        }
        Format::Q4_1 | Format::Q5_1 => {
            let min = decode::half(block, layout.min, lane);
            for (out, code) in out.iter_mut().zip(decode::codes32(format, block, lane)) {
                *out = scale.mul_add(f32::from(code), min);
            }
        }
        Format::Q4K | Format::Q5K => {
            let min = decode::half(block, layout.min, lane);
            let (scales, mins) = decode::scales6(block, layout.scales, lane);
            let codes = decode::codes256(format, block, lane);
            for (index, (out, code)) in out.iter_mut().zip(codes).enumerate() {
                let (s, m) = (scale * f32::from(scales[index / 32]), min * f32::from(mins[index / 32]));
                *out = s * f32::from(code) - m;
            }
        }
        Format::Q6K => {
            let codes = decode::codes256(format, block, lane);
            for (index, (out, code)) in out.iter_mut().zip(codes).enumerate() {
                let part = block[layout.scales + index / 16 * LANES + lane].cast_signed();
                *out = scale * f32::from(part) * (i32::from(code) - format.offset()) as f32;
            }
        }
        Format::F32 | Format::F16 | Format::BF16 => {}
    }
}
