//! Random matrices in file format, and products in f64 from ggml's definition of each format: independent of panels and kernels.

use half::{bf16, f16};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use super::{Format, InputForm};

pub(super) fn random(seed: u64) -> SmallRng {
    SmallRng::seed_from_u64(seed)
}

pub(super) fn floats(random: &mut SmallRng, count: usize) -> Vec<f32> {
    (0..count).map(|_| random.random_range(-2.0_f32..2.0)).collect()
}

/// Rows of random blocks with scales of a sane size.
pub(super) fn rows(random: &mut SmallRng, format: Format, outputs: usize, inputs: usize) -> Vec<u8> {
    let count = outputs * inputs;
    match format {
        Format::F32 => floats(random, count).into_iter().flat_map(f32::to_le_bytes).collect(),
        Format::F16 => {
            floats(random, count).into_iter().flat_map(|w| f16::from_f32(w).to_le_bytes()).collect()
        }
        Format::BF16 => {
            floats(random, count).into_iter().flat_map(|w| bf16::from_f32(w).to_le_bytes()).collect()
        }
        _ => {
            let mut bytes = vec![0; outputs * format.row_bytes(inputs).unwrap()];
            random.fill(&mut bytes[..]);
            for block in bytes.chunks_exact_mut(format.block_bytes()) {
                let halves: &[usize] = match format {
                    Format::Q4_1 | Format::Q5_1 | Format::Q4K | Format::Q5K => &[0, 2],
                    Format::Q6K => &[208],
                    _ => &[0],
                };
                for at in halves {
                    let scale = f16::from_f32(random.random_range(-0.02_f32..0.02));
                    block[*at..*at + 2].copy_from_slice(&scale.to_le_bytes());
                }
            }
            bytes
        }
    }
}

fn half(block: &[u8], at: usize) -> f64 {
    f16::from_le_bytes([block[at], block[at + 1]]).to_f64()
}

/// The weights of a row, by the reference code of ggml (`dequantize_row_*`).
pub(super) fn dequantise(format: Format, row: &[u8]) -> Vec<f64> {
    let mut out = Vec::new();
    for block in row.chunks_exact(format.block_bytes()) {
        match format {
            Format::F32 => out.push(f64::from(f32::from_le_bytes(block.try_into().unwrap()))),
            Format::F16 => out.push(f16::from_le_bytes(block.try_into().unwrap()).to_f64()),
            Format::BF16 => out.push(bf16::from_le_bytes(block.try_into().unwrap()).to_f64()),
            Format::Q8_0 => {
                out.extend(block[2..].iter().map(|q| half(block, 0) * f64::from(q.cast_signed())))
            }
            Format::Q4_0 | Format::Q4_1 | Format::Q5_0 | Format::Q5_1 => block32(format, block, &mut out),
            Format::Q4K | Format::Q5K => block45(format, block, &mut out),
            Format::Q6K => block6(block, &mut out),
        }
    }
    out
}

fn block32(format: Format, block: &[u8], out: &mut Vec<f64>) {
    let d = half(block, 0);
    let m = if matches!(format, Format::Q4_1 | Format::Q5_1) { half(block, 2) } else { 0.0 };
    let (high, at, offset) = match format {
        Format::Q4_0 => (0, 2, 8),
        Format::Q4_1 => (0, 4, 0),
        Format::Q5_0 => (u32::from_le_bytes(block[2..6].try_into().unwrap()), 6, 16),
        _ => (u32::from_le_bytes(block[4..8].try_into().unwrap()), 8, 0),
    };
    for k in 0..32 {
        let low = if k < 16 { block[at + k] & 15 } else { block[at + k - 16] >> 4 };
        let code = i32::from(low) + ((high >> k & 1) << 4) as i32;
        out.push(d * f64::from(code - offset) + m);
    }
}

fn block45(format: Format, block: &[u8], out: &mut Vec<f64>) {
    let (d, min) = (half(block, 0), half(block, 2));
    let q = &block[4..16];
    let (high, codes) =
        if format == Format::Q5K { (&block[16..48], &block[48..]) } else { (&block[..0], &block[16..]) };
    for part in 0..8 {
        let (s, m) = if part < 4 {
            (q[part] & 63, q[part + 4] & 63)
        } else {
            (q[part + 4] & 15 | (q[part - 4] >> 6) << 4, q[part + 4] >> 4 | (q[part] >> 6) << 4)
        };
        for l in 0..32 {
            let pair = codes[part / 2 * 32 + l];
            let low = if part % 2 == 0 { pair & 15 } else { pair >> 4 };
            let fifth = high.get(l).map_or(0, |bits| (bits >> part & 1) << 4);
            out.push(d * f64::from(s) * f64::from(low + fifth) - min * f64::from(m));
        }
    }
}

fn block6(block: &[u8], out: &mut Vec<f64>) {
    let d = half(block, 208);
    for n in 0..2 {
        let (ql, qh, sc) = (&block[64 * n..], &block[128 + 32 * n..], &block[192 + 8 * n..]);
        let mut y = [0.0; 128];
        for l in 0..32 {
            let codes = [
                ql[l] & 15 | (qh[l] & 3) << 4,
                ql[l + 32] & 15 | (qh[l] >> 2 & 3) << 4,
                ql[l] >> 4 | (qh[l] >> 4 & 3) << 4,
                ql[l + 32] >> 4 | (qh[l] >> 6 & 3) << 4,
            ];
            for (quarter, code) in codes.iter().enumerate() {
                let scale = f64::from(sc[l / 16 + 2 * quarter].cast_signed());
                y[l + 32 * quarter] = d * scale * (f64::from(*code) - 32.0);
            }
        }
        out.extend(y);
    }
}

/// Activations as a kernel sees them: quantised and widened again, by a plain reading of llama.cpp's code.
pub(super) fn seen(form: InputForm, row: &[f32]) -> Vec<f64> {
    let whole =
        |block: &[f32]| {
            let top = block.iter().copied().fold(0.0_f32, |top, x| if x.abs() > top.abs() { x } else { top });
            let (top, down) = if form == InputForm::Q8 {
                (top.abs(), f16::from_f32(top.abs() / 127.0).to_f64())
            } else {
                (top, 0.0)
            };
            let inverse = if form == InputForm::Q8 { 127.0 / top } else { -127.0 / top };
            let scale = if form == InputForm::Q8 { down } else { f64::from(1.0 / inverse) };
            block
                .iter()
                .map(|x| {
                    if top == 0.0 {
                        0.0
                    } else {
                        f64::from((x * inverse).round_ties_even().min(127.0)) * scale
                    }
                })
                .collect::<Vec<_>>()
        };
    match form {
        InputForm::F32 => row.iter().copied().map(f64::from).collect(),
        InputForm::Q8 => row.chunks(32).flat_map(whole).collect(),
        InputForm::Q8K => row.chunks(256).flat_map(whole).collect(),
    }
}
