//! The formats of weights in GGUF and safetensors files, and how a panel holds them.
//!
//! A panel is 16 outputs side by side: lane `o` of each vector belongs to output `o`. Whatever ggml's block holds in 32-bit words is
//! transposed word by word (vector `w` of a panel block is word `w` of each of the 16 blocks), so that a panel has exactly the bytes of the
//! file, and packing is a copy.

use super::input::InputForm;

/// Outputs of a panel: the f32 lanes of an AVX-512 register.
pub(super) const LANES: usize = 16;

/// A format of weights; blocks as ggml lays them out in GGUF files (llama.cpp `ggml-common.h`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Format {
    /// 32-bit floats.
    F32,
    /// IEEE 16-bit floats.
    F16,
    /// The upper half of 32-bit floats.
    BF16,
    /// Blocks of 32: `d * (q - 8)`, 4 bits.
    Q4_0,
    /// Blocks of 32: `d * q + m`, 4 bits.
    Q4_1,
    /// Blocks of 32: `d * (q - 16)`, 5 bits.
    Q5_0,
    /// Blocks of 32: `d * q + m`, 5 bits.
    Q5_1,
    /// Blocks of 32: `d * q`, 8 bits.
    Q8_0,
    /// Blocks of 256 in 8 parts: `d * s * q - dmin * m`, 4 bits, `s` and `m` of 6 bits for each part.
    Q4K,
    /// Blocks of 256 in 8 parts: `d * s * q - dmin * m`, 5 bits.
    Q5K,
    /// Blocks of 256 in 16 parts: `d * s * (q - 32)`, 6 bits, `s` of 8 bits for each part.
    Q6K,
}

impl Format {
    /// All formats.
    pub const ALL: [Self; 11] = [
        Self::F32,
        Self::F16,
        Self::BF16,
        Self::Q4_0,
        Self::Q4_1,
        Self::Q5_0,
        Self::Q5_1,
        Self::Q8_0,
        Self::Q4K,
        Self::Q5K,
        Self::Q6K,
    ];

    /// Weights of a block: the inputs of a matrix are a multiple of it.
    pub const fn block(self) -> usize {
        match self {
            Self::F32 | Self::F16 | Self::BF16 => 1,
            Self::Q4_0 | Self::Q4_1 | Self::Q5_0 | Self::Q5_1 | Self::Q8_0 => 32,
            Self::Q4K | Self::Q5K | Self::Q6K => 256,
        }
    }

    /// Bytes of a block in the file.
    pub const fn block_bytes(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::F16 | Self::BF16 => 2,
            Self::Q4_0 => 18,
            Self::Q4_1 => 20,
            Self::Q5_0 => 22,
            Self::Q5_1 => 24,
            Self::Q8_0 => 34,
            Self::Q4K => 144,
            Self::Q5K => 176,
            Self::Q6K => 210,
        }
    }

    /// Bytes of a row of `inputs` weights in the file; `None` where `inputs` is no multiple of the block or the size overflows.
    pub fn row_bytes(self, inputs: usize) -> Option<usize> {
        inputs
            .is_multiple_of(self.block())
            .then(|| (inputs / self.block()).checked_mul(self.block_bytes()))?
    }

    /// The form of activations that weights of this format are multiplied by.
    pub fn input_form(self) -> InputForm {
        match self {
            Self::F32 | Self::F16 | Self::BF16 => InputForm::F32,
            Self::Q4_0 | Self::Q4_1 | Self::Q5_0 | Self::Q5_1 | Self::Q8_0 => InputForm::Q8,
            Self::Q4K | Self::Q5K | Self::Q6K => InputForm::Q8K,
        }
    }

    /// The format of an index in [`Format::ALL`], which kernels have as a constant.
    #[cfg(target_arch = "x86_64")]
    pub(super) const fn of(index: u8) -> Self {
        Self::ALL[index as usize]
    }

    /// What is subtracted from the unsigned code that a panel holds.
    pub(super) const fn offset(self) -> i32 {
        match self {
            Self::Q4_0 => 8,
            Self::Q5_0 => 16,
            Self::Q8_0 => 128,
            Self::Q6K => 32,
            _ => 0,
        }
    }

    /// Where a panel block holds what, in bytes.
    pub(super) const fn layout(self) -> Layout {
        let (low, min, scales, high, codes) = match self {
            Self::F32 | Self::F16 | Self::BF16 => (0, 0, 0, 0, 0),
            Self::Q4_0 | Self::Q8_0 => (0, 0, 0, 0, 32),
            Self::Q4_1 => (0, 32, 0, 0, 64),
            Self::Q5_0 => (0, 0, 0, 32, 96),
            Self::Q5_1 => (0, 32, 0, 64, 128),
            Self::Q4K => (0, 32, 64, 0, 256),
            Self::Q5K => (0, 32, 64, 256, 768),
            Self::Q6K => (0, 0, 32, 288, 288),
        };
        Layout { scale: low, min, scales, high, codes }
    }
}

/// Where a Q6K panel block has ggml's words: in the order in which a kernel reads them, since only addresses that ascend keep the core's
/// prefetcher going (a third of the bandwidth otherwise).
///
/// A block is two halves of four quarters of 32 weights. `[half][side][word]`, `side` the first or second 16 of each quarter, has three vectors:
/// low nibbles of quarters 0 (low) and 2 (high), those of quarters 1 and 3, and the upper two bits of all four.
#[derive(Clone, Copy, Debug)]
pub(super) struct Six;

impl Six {
    /// The vector with the low nibbles of a quarter; `word` counts in the quarter, `0..8`.
    pub const fn low(half: usize, quarter: usize, word: usize) -> usize {
        Self::first(half, word) + quarter % 2
    }

    /// The vector with the upper bits of all quarters.
    pub const fn high(half: usize, word: usize) -> usize {
        Self::first(half, word) + 2
    }

    const fn first(half: usize, word: usize) -> usize {
        (half * 8 + word) * 3
    }
}

/// Offsets into a panel block.
#[derive(Clone, Copy, Debug)]
pub(super) struct Layout {
    /// `[16]` f16: d.
    pub scale: usize,
    /// `[16]` f16: m or dmin.
    pub min: usize,
    /// Q4K, Q5K: `[3][16]` words, ggml's 12 bytes of 6-bit numbers. Q6K: `[16 parts][16]` i8.
    pub scales: usize,
    /// Bits above the low four. Q5_0, Q5_1: `[16]` words, bit t of byte i belongs to weight 4t + i. Q5K: `[8][16]` words. Q6K: see [`Six`].
    pub high: usize,
    /// `[words][16]` words of low nibbles as in ggml's block; Q8_0: bytes with the sign bit turned.
    pub codes: usize,
}
