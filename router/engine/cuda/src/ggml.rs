//! The blocks of GGUF files' quantised formats.

use half::f16;
use reprise_kernels::matrix::Format;

pub(crate) fn half_at(block: &[u8], at: usize) -> f32 {
    f16::from_le_bytes([block[at], block[at + 1]]).to_f32()
}

/// A block of ggml (llama.cpp `ggml-common.h`) to codes, and (scale, offset) for each 32 or 16 of them.
pub(crate) fn decode(format: Format, block: &[u8], codes: &mut [u8; 256], scales: &mut [(f32, f32); 16]) {
    let d = half_at(block, 0);
    match format {
        Format::Q4_0 | Format::Q4_1 => {
            let (at, offset) = if format == Format::Q4_0 { (2, -8.0 * d) } else { (4, half_at(block, 2)) };
            scales[0] = (d, offset);
            for j in 0..16 {
                (codes[j], codes[j + 16]) = (block[at + j] & 15, block[at + j] >> 4);
            }
        }
        Format::Q5_0 | Format::Q5_1 => {
            let (at, offset) = if format == Format::Q5_0 { (2, -16.0 * d) } else { (4, half_at(block, 2)) };
            scales[0] = (d, offset);
            let high = |j: usize| (block[at + j / 8] >> (j % 8) & 1) << 4;
            for j in 0..16 {
                let pair = block[at + 4 + j];
                (codes[j], codes[j + 16]) = (pair & 15 | high(j), pair >> 4 | high(j + 16));
            }
        }
        Format::Q8_0 => {
            scales[0] = (d, -128.0 * d);
            for (code, byte) in codes.iter_mut().zip(&block[2..34]) {
                *code = byte.wrapping_add(128);
            }
        }
        Format::Q4K | Format::Q5K => {
            let least = half_at(block, 2);
            let packed = &block[4..16];
            for (part, scale) in scales.iter_mut().enumerate().take(8) {
                let (s, m) = if part < 4 {
                    (packed[part] & 63, packed[part + 4] & 63)
                } else {
                    let (low, high) = (packed[part + 4], part - 4);
                    (low & 15 | packed[high] >> 6 << 4, low >> 4 | packed[high + 4] >> 6 << 4)
                };
                *scale = (d * f32::from(s), -least * f32::from(m));
            }
            let at = if format == Format::Q4K { 16 } else { 48 };
            for (k, code) in codes.iter_mut().enumerate() {
                let (part, l) = (k / 32, k % 32);
                let pair = block[at + part / 2 * 32 + l];
                *code = if part % 2 == 0 { pair & 15 } else { pair >> 4 };
                if format == Format::Q5K {
                    *code |= (block[16 + l] >> part & 1) << 4;
                }
            }
        }
        Format::Q6K => {
            let d = half_at(block, 208);
            for (scale, byte) in scales.iter_mut().zip(&block[192..208]) {
                let s = d * f32::from(*byte as i8);
                *scale = (s, -32.0 * s);
            }
            for (k, code) in codes.iter_mut().enumerate() {
                let (half, quarter, l) = (k / 128, k / 32 % 4, k % 32);
                let pair = block[half * 64 + quarter % 2 * 32 + l];
                let low = if quarter < 2 { pair & 15 } else { pair >> 4 };
                *code = low | (block[128 + half * 32 + l] >> (2 * quarter) & 3) << 4;
            }
        }
        Format::F32 | Format::F16 | Format::BF16 => {}
    }
}
