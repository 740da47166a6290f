//! Weights as the device holds them, and how those of GGUF and safetensors files become it.
//!
//! Three forms, row by row: bf16; codes of 4 bits and codes of 8 bits, each with a pair of f16 (scale, offset) for every 32 or 16 of them,
//! `weight = scale * code + offset`. Quantised files stay quantised: Q4_0, Q4_1 and Q4_K take 5 bits a weight, Q5_0, Q5_1, Q5_K and
//! Q8_0 take 9, Q6_K takes 10. The scales of Q4_K and Q5_K are products, rounded here to f16: to 2^-11, which is finer than the bf16 in
//! which weights enter a product. F32 and F16 are rounded to bf16.

use half::{bf16, f16};
use reprise_kernels::matrix::Format;

use crate::{
    CudaError,
    ggml::{decode, half_at},
};

/// Inputs of a matrix are a multiple of it.
pub const STEP: usize = 64;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    Bf16,
    /// A scale for 32.
    Q4,
    /// A scale for `1 << shift`, 16 or 32.
    Q8 {
        shift: u8,
    },
}

/// A matrix in the device's form, on the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Packed {
    pub form: Form,
    pub rows: usize,
    pub inputs: usize,
    pub codes: Vec<u8>,
    pub scales: Vec<u8>,
}

impl Form {
    #[must_use]
    pub const fn of(format: Format) -> Self {
        match format {
            Format::F32 | Format::F16 | Format::BF16 => Self::Bf16,
            Format::Q4_0 | Format::Q4_1 | Format::Q4K => Self::Q4,
            Format::Q5_0 | Format::Q5_1 | Format::Q8_0 | Format::Q5K => Self::Q8 { shift: 5 },
            Format::Q6K => Self::Q8 { shift: 4 },
        }
    }

    /// log2 of the weights that share a scale.
    #[must_use]
    pub const fn shift(self) -> u8 {
        match self {
            Self::Bf16 | Self::Q4 => 5,
            Self::Q8 { shift } => shift,
        }
    }

    #[must_use]
    pub const fn code_bytes(self, rows: usize, inputs: usize) -> usize {
        match self {
            Self::Bf16 => rows * inputs * 2,
            Self::Q4 => rows * inputs / 2,
            Self::Q8 { .. } => rows * inputs,
        }
    }

    #[must_use]
    pub const fn scale_bytes(self, rows: usize, inputs: usize) -> usize {
        match self {
            Self::Bf16 => 0,
            Self::Q4 | Self::Q8 { .. } => ((rows * inputs) >> self.shift()) * 4,
        }
    }

    #[must_use]
    pub const fn bytes(self, rows: usize, inputs: usize) -> usize {
        self.code_bytes(rows, inputs) + self.scale_bytes(rows, inputs)
    }
}

/// Where the code of input `k` of 32 lies: the eight that a lane of a tensor core multiplies are side by side (`gemm.cu`).
const fn place(k: usize) -> usize {
    let (step, half, pair, odd) = (k / 16, k / 8 % 2, k % 8 / 2, k % 2);
    pair * 8 + step * 4 + half * 2 + odd
}

impl Packed {
    /// `bytes`: `rows` of `inputs` weights as the file holds them.
    ///
    /// # Errors
    /// Inputs are no multiple of [`STEP`], or there are too few bytes.
    pub fn new(format: Format, rows: usize, inputs: usize, bytes: &[u8]) -> Result<Self, CudaError> {
        let row_bytes = format.row_bytes(inputs).filter(|_| inputs.is_multiple_of(STEP) && inputs > 0);
        let Some(row_bytes) = row_bytes else {
            return Err(CudaError::Shape(format!(
                "rows of {inputs} weights in {format:?}: the GPU takes multiples of {STEP}"
            )));
        };
        if bytes.len() != rows * row_bytes {
            return Err(CudaError::Shape(format!("{} bytes for {rows} rows of {row_bytes}", bytes.len())));
        }
        let form = Form::of(format);
        let mut packed = Self {
            form,
            rows,
            inputs,
            codes: vec![0; form.code_bytes(rows, inputs)],
            scales: vec![0; form.scale_bytes(rows, inputs)],
        };
        let threads = std::thread::available_parallelism().map_or(1, std::num::NonZeroUsize::get).min(16);
        let share = rows.div_ceil(threads).max(1);
        let (code_row, scale_row) = (form.code_bytes(1, inputs), form.scale_bytes(1, inputs));
        std::thread::scope(|scope| {
            let mut scales = packed.scales.as_mut_slice();
            let parts = bytes.chunks(share * row_bytes).zip(packed.codes.chunks_mut(share * code_row));
            for (bytes, codes) in parts {
                let (mine, rest) = scales.split_at_mut((bytes.len() / row_bytes) * scale_row);
                scales = rest;
                scope.spawn(move || pack(format, bytes, codes, mine));
            }
        });
        Ok(packed)
    }

    /// The same weights in bf16.
    #[must_use]
    pub fn widened(&self) -> Self {
        let codes = self.weights().iter().flat_map(|weight| bf16::from_f32(*weight).to_le_bytes()).collect();
        Self { form: Form::Bf16, rows: self.rows, inputs: self.inputs, codes, scales: Vec::new() }
    }

    /// Weights in f32, row by row. (In a product they are rounded to bf16.)
    #[must_use]
    pub fn weights(&self) -> Vec<f32> {
        let halves = |bytes: &[u8], at: usize| f16::from_le_bytes([bytes[at], bytes[at + 1]]).to_f32();
        (0..self.rows * self.inputs)
            .map(|i| {
                let at = i / 32 * 32 + place(i % 32);
                let code = match self.form {
                    Form::Bf16 => {
                        return bf16::from_le_bytes([self.codes[2 * i], self.codes[2 * i + 1]]).to_f32();
                    }
                    Form::Q4 => self.codes[at / 2] >> (at % 2 * 4) & 15,
                    Form::Q8 { .. } => self.codes[at],
                };
                let at = (i >> self.form.shift()) * 4;
                f32::from(code).mul_add(halves(&self.scales, at), halves(&self.scales, at + 2))
            })
            .collect()
    }
}

/// Element `i` of the random weights `seed`: uniform in [-range, range], rounded to bf16. The same on host and device.
#[must_use]
pub fn random(seed: u64, i: u64, range: f32) -> bf16 {
    let mut z = seed.wrapping_add((i.wrapping_add(1)).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    let bits = (z >> 32) as u32 >> 8;
    bf16::from_f32((bits as f32 * (1.0 / 8_388_608.0) - 1.0) * range)
}

/// Writes whole rows.
fn pack(format: Format, bytes: &[u8], codes: &mut [u8], scales: &mut [u8]) {
    let blocks = bytes.chunks_exact(format.block_bytes());
    match format {
        Format::BF16 => codes.copy_from_slice(bytes),
        Format::F16 => {
            for (block, code) in blocks.zip(codes.as_chunks_mut::<2>().0) {
                *code = bf16::from_f32(half_at(block, 0)).to_le_bytes();
            }
        }
        Format::F32 => {
            for (block, code) in blocks.zip(codes.as_chunks_mut::<2>().0) {
                let weight = f32::from_le_bytes([block[0], block[1], block[2], block[3]]);
                *code = bf16::from_f32(weight).to_le_bytes();
            }
        }
        _ => {
            let mut block_codes = [0u8; 256];
            let mut block_scales = [(0f32, 0f32); 16];
            let form = Form::of(format);
            let (count, shared) = (format.block(), format.block() >> form.shift());
            let code_bytes = form.code_bytes(1, count);
            let written = codes.chunks_exact_mut(code_bytes).zip(scales.chunks_exact_mut(shared * 4));
            for (block, (codes, scales)) in blocks.zip(written) {
                decode(format, block, &mut block_codes, &mut block_scales);
                for codes in block_codes[..count].as_chunks_mut::<32>().0 {
                    let plain = *codes;
                    plain.iter().enumerate().for_each(|(k, code)| codes[place(k)] = *code);
                }
                match form {
                    Form::Q4 => {
                        for (byte, pair) in codes.iter_mut().zip(block_codes.as_chunks::<2>().0) {
                            *byte = pair[0] | pair[1] << 4;
                        }
                    }
                    Form::Q8 { .. } | Form::Bf16 => codes.copy_from_slice(&block_codes[..count]),
                }
                for (bytes, (scale, offset)) in scales.as_chunks_mut::<4>().0.iter_mut().zip(&block_scales) {
                    let [a, b] = f16::from_f32(*scale).to_le_bytes();
                    let [c, d] = f16::from_f32(*offset).to_le_bytes();
                    *bytes = [a, b, c, d];
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use rand::{Rng, SeedableRng, rngs::SmallRng};
    use reprise_kernels::matrix::Matrix;

    use super::*;

    /// Random blocks whose scales are ordinary numbers.
    pub(super) fn random(format: Format, rows: usize, inputs: usize, seed: u64) -> Vec<u8> {
        let mut random = SmallRng::seed_from_u64(seed);
        let mut bytes = vec![0u8; format.row_bytes(inputs).expect("whole blocks") * rows];
        random.fill(&mut bytes[..]);
        for block in bytes.chunks_exact_mut(format.block_bytes()) {
            let mut set = |at: usize| {
                block[at..at + 2]
                    .copy_from_slice(&f16::from_f32(random.random_range(0.01..0.02)).to_le_bytes());
            };
            match format {
                Format::Q4_0 | Format::Q5_0 | Format::Q8_0 => set(0),
                Format::Q4_1 | Format::Q5_1 | Format::Q4K | Format::Q5K => (set(0), set(2)).1,
                Format::Q6K => set(208),
                Format::F32 => {
                    let weight: f32 = random.random_range(-1.0..1.0);
                    block.copy_from_slice(&weight.to_le_bytes());
                }
                Format::F16 => set(0),
                Format::BF16 => {
                    let weight = bf16::from_f32(random.random_range(-1.0..1.0));
                    block.copy_from_slice(&weight.to_le_bytes());
                }
            }
        }
        bytes
    }

    #[test]
    fn weights_are_those_that_the_cpu_takes() {
        for format in Format::ALL {
            let (rows, inputs) = (21, 512);
            let bytes = random(format, rows, inputs, 7);
            let packed = Packed::new(format, rows, inputs, &bytes).expect("packs");
            assert_eq!(packed.codes.len() + packed.scales.len(), packed.form.bytes(rows, inputs));
            let cpu = Matrix::pack(format, rows, inputs, &bytes).expect("packs");
            let (mut row, mut largest) = (vec![0.0; inputs], 0f32);
            for (r, weights) in packed.weights().chunks_exact(inputs).enumerate() {
                cpu.row(r, &mut row);
                let scale = row.iter().fold(0f32, |most, x| most.max(x.abs()));
                for (a, b) in weights.iter().zip(&row) {
                    largest = largest.max((a - b).abs() / scale);
                }
            }
            let tolerance = match format {
                Format::F32 | Format::F16 => 1.0 / 256.0,
                Format::Q4K | Format::Q5K | Format::Q6K => 1.0 / 1024.0,
                _ => 1e-6,
            };
            assert!(largest <= tolerance, "{format:?}: {largest}");
        }
    }

    #[test]
    fn widening_rounds_to_bf16() {
        let bytes = random(Format::Q4K, 3, 256, 1);
        let packed = Packed::new(Format::Q4K, 3, 256, &bytes).expect("packs");
        let wide = packed.widened();
        for (a, b) in wide.weights().iter().zip(packed.weights()) {
            assert_eq!(*a, bf16::from_f32(b).to_f32());
        }
    }

    #[test]
    fn odd_shapes_are_refused() {
        assert!(Packed::new(Format::BF16, 1, 32, &[0; 64]).is_err());
        assert!(Packed::new(Format::BF16, 2, 64, &[0; 128]).is_err());
        assert!(Packed::new(Format::Q4K, 1, 128, &[0; 72]).is_err());
    }
}
