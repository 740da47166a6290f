//! What one lane of a panel block holds.

use half::f16;

use super::format::{Format, LANES, Six};

/// Half `lane` of the vector of halves at `at`.
pub(super) fn half(block: &[u8], at: usize, lane: usize) -> f32 {
    f16::from_le_bytes([block[at + lane * 2], block[at + lane * 2 + 1]]).to_f32()
}

/// Byte `index` of the lane's words from `at` on.
fn byte(block: &[u8], at: usize, lane: usize, index: usize) -> u8 {
    block[at + index / 4 * LANES * 4 + lane * 4 + index % 4]
}

/// The 32 unsigned codes of a lane in a block of 32, in the order of the inputs.
pub(super) fn codes32(format: Format, block: &[u8], lane: usize) -> [u8; 32] {
    let layout = format.layout();
    std::array::from_fn(|k| match format {
        Format::Q8_0 => byte(block, layout.codes, lane, k),
        _ => {
            let pair = byte(block, layout.codes, lane, k % 16);
            let low = if k < 16 { pair & 15 } else { pair >> 4 };
            match format {
                Format::Q5_0 | Format::Q5_1 => {
                    low | (byte(block, layout.high, lane, k % 4) >> (k / 4) & 1) << 4
                }
                _ => low,
            }
        }
    })
}

/// The 256 unsigned codes of a lane in a block of 256, in the order of the inputs.
pub(super) fn codes256(format: Format, block: &[u8], lane: usize) -> [u8; 256] {
    let layout = format.layout();
    std::array::from_fn(|k| match format {
        Format::Q6K => {
            let (half, quarter, l) = (k / 128, k / 32 % 4, k % 32);
            let pair = byte(block, layout.codes, lane, Six::low(half, quarter, l / 4) * 4 + l % 4);
            let low = if quarter < 2 { pair & 15 } else { pair >> 4 };
            low | (byte(block, layout.high, lane, Six::high(half, l / 4) * 4 + l % 4) >> (2 * quarter) & 3)
                << 4
        }
        _ => {
            let (part, l) = (k / 32, k % 32);
            let pair = byte(block, layout.codes, lane, part / 2 * 32 + l);
            let low = if part.is_multiple_of(2) { pair & 15 } else { pair >> 4 };
            match format {
                Format::Q5K => low | (byte(block, layout.high, lane, l) >> part & 1) << 4,
                _ => low,
            }
        }
    })
}

/// The 6-bit scales and mins of a lane of Q4K and Q5K (ggml's `get_scale_min_k4`).
pub(super) fn scales6(block: &[u8], at: usize, lane: usize) -> ([u8; 8], [u8; 8]) {
    let bytes: [u8; 12] = std::array::from_fn(|index| byte(block, at, lane, index));
    let scale = |part: usize| match part {
        0..4 => bytes[part] & 63,
        _ => bytes[part + 4] & 15 | bytes[part - 4] >> 6 << 4,
    };
    let min = |part: usize| match part {
        0..4 => bytes[part + 4] & 63,
        _ => bytes[part + 4] >> 4 | bytes[part] >> 6 << 4,
    };
    (std::array::from_fn(scale), std::array::from_fn(min))
}
