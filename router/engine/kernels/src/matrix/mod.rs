//! Weight matrices in the formats of GGUF and safetensors files, and their products with activations.
//!
//! A matrix `[outputs, inputs]` is kept in panels of 16 outputs whose weights are interleaved: lane `o` of a vector belongs to output `o`
//! (`format.rs` says how). A product accumulates each output in its own lane, block after block, and never adds lanes
//! together. So a row has the same bits whatever rows are computed beside it and however outputs are divided between threads, and the
//! kernels for one row and for many differ only in how often they unpack a weight.
//!
//! Arithmetic is that of llama.cpp: activations are quantised to 8 bits (`input.rs`), dot products inside a block are exact
//! integers, and f32 holds sums over blocks.
//!
//! What bounds a product (Zen 4): with one or two rows the memory, if weights are read in the order of their addresses and lie on huge pages
//! (`buffer.rs`); from about four rows on the multipliers, of whose 8-bit peak a kernel reaches 65 to 75 %: the rest goes into scales, one
//! conversion and two or three multiplications for each output, row and block.

#![expect(
    unsafe_code,
    reason = "kernels: vectors of weights, and outputs that threads write in disjoint parts"
)]

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod buffer;
mod decode;
mod format;
mod grouped;
mod input;
mod interleave;
mod level;
mod pack;
mod portable;
mod product;
mod quantise;
mod shared;
#[cfg(test)]
mod testing;

use std::num::NonZeroUsize;
use std::ops::Range;

pub use format::Format;
pub use grouped::{gate_up_groups, multiply_groups};
pub use input::{Input, InputForm};
pub use product::{gate_up, multiply, multiply_add, multiply_gelu};

use crate::pool::{Pool, share};
use buffer::Buffer;
use format::LANES;
use shared::Shared;

/// Weights that do not make a matrix.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MatrixError {
    /// A matrix has at least one output and one input.
    #[error("a matrix of {outputs} outputs and {inputs} inputs is empty or too large")]
    Size {
        /// Rows of the matrix.
        outputs: usize,
        /// Columns of the matrix.
        inputs: usize,
    },
    /// Inputs come in whole blocks.
    #[error("{inputs} inputs are not whole blocks of {block} as {format:?} needs ({outputs} outputs)")]
    Block {
        /// The format.
        format: Format,
        /// Rows of the matrix.
        outputs: usize,
        /// Columns of the matrix.
        inputs: usize,
        /// Weights of a block.
        block: usize,
    },
    /// The bytes are not those of this shape.
    #[error("{bytes} bytes for {outputs} x {inputs} weights of {format:?}, which take {expected}")]
    Length {
        /// The format.
        format: Format,
        /// Rows of the matrix.
        outputs: usize,
        /// Columns of the matrix.
        inputs: usize,
        /// Bytes given.
        bytes: usize,
        /// Bytes of this shape.
        expected: usize,
    },
    /// One bias for each output.
    #[error("a bias of {bias} values for {outputs} outputs")]
    Bias {
        /// Values given.
        bias: usize,
        /// Rows of the matrix.
        outputs: usize,
    },
}

/// Weights `[outputs, inputs]`, packed for the kernels, with a bias or none.
#[derive(Debug)]
pub struct Matrix {
    format: Format,
    outputs: usize,
    inputs: usize,
    panels: Buffer,
    bias: Option<Vec<f32>>,
}

impl Matrix {
    /// Packs weights; `bytes` holds row after row as in a GGUF or safetensors file.
    ///
    /// # Errors
    /// If the shape is empty, no multiple of the format's block, or not that of `bytes`.
    pub fn pack(format: Format, outputs: usize, inputs: usize, bytes: &[u8]) -> Result<Self, MatrixError> {
        Self::pack_with(None, format, outputs, inputs, bytes)
    }

    /// As [`Matrix::pack`], on all threads of `pool`.
    ///
    /// # Errors
    /// As [`Matrix::pack`].
    pub fn pack_on(
        pool: &Pool,
        format: Format,
        outputs: usize,
        inputs: usize,
        bytes: &[u8],
    ) -> Result<Self, MatrixError> {
        Self::pack_with(Some(pool), format, outputs, inputs, bytes)
    }

    fn pack_with(
        pool: Option<&Pool>,
        format: Format,
        outputs: usize,
        inputs: usize,
        bytes: &[u8],
    ) -> Result<Self, MatrixError> {
        let size = MatrixError::Size { outputs, inputs };
        let block = format.block();
        if !inputs.is_multiple_of(block) {
            return Err(MatrixError::Block { format, outputs, inputs, block });
        }
        let row_bytes =
            format.row_bytes(inputs).and_then(NonZeroUsize::new).ok_or_else(|| size.clone())?.get();
        let expected = outputs.checked_mul(row_bytes).ok_or_else(|| size.clone())?;
        if bytes.len() != expected {
            return Err(MatrixError::Length { format, outputs, inputs, bytes: bytes.len(), expected });
        }
        let panel_bytes = row_bytes * LANES;
        let count = outputs.div_ceil(LANES);
        let mut panels = count.checked_mul(panel_bytes).and_then(Buffer::zeroed).ok_or(size)?;
        let target = Shared::new(&mut panels);
        let job = |index: usize, threads: usize| {
            for panel in share(count, 1, index, threads) {
                let rows = &bytes[panel * panel_bytes..((panel + 1) * panel_bytes).min(bytes.len())];
                // SAFETY: each panel is packed by one thread.
                let target = unsafe { target.part(panel * panel_bytes..(panel + 1) * panel_bytes) };
                pack::pack_panel(format, rows, row_bytes, target);
            }
        };
        match pool {
            Some(pool) => pool.run(&|index| job(index, pool.threads())),
            None => job(0, 1),
        }
        Ok(Self { format, outputs, inputs, panels, bias: None })
    }

    /// Adds a bias to each product with this matrix.
    ///
    /// # Errors
    /// If there is not one value for each output.
    pub fn with_bias(mut self, bias: Vec<f32>) -> Result<Self, MatrixError> {
        if bias.len() != self.outputs {
            return Err(MatrixError::Bias { bias: bias.len(), outputs: self.outputs });
        }
        self.bias = Some(bias);
        Ok(self)
    }

    /// Rows of the matrix: the width of a product.
    pub fn outputs(&self) -> usize {
        self.outputs
    }

    /// Columns of the matrix: the width of the activations.
    pub fn inputs(&self) -> usize {
        self.inputs
    }

    /// The format of the weights.
    pub fn format(&self) -> Format {
        self.format
    }

    /// Bytes that the weights take in memory.
    pub fn bytes(&self) -> usize {
        self.panels.len()
    }

    /// What is added to each product.
    pub fn bias(&self) -> Option<&[f32]> {
        self.bias.as_deref()
    }

    /// What [`Matrix::bytes`] of such a matrix will be.
    pub fn packed_bytes(format: Format, outputs: usize, inputs: usize) -> usize {
        pack::panel_bytes(format, inputs) * outputs.div_ceil(LANES)
    }

    /// The form of activations that it is multiplied by.
    pub fn input_form(&self) -> InputForm {
        self.format.input_form()
    }

    /// The weights of one output, dequantised: an embedding.
    ///
    /// # Panics
    /// If there is no such output, or `out` does not hold one value for each input.
    pub fn row(&self, output: usize, out: &mut [f32]) {
        assert!(output < self.outputs, "row {output} of {}", self.outputs);
        assert_eq!(out.len(), self.inputs, "a row of the matrix");
        pack::unpack_row(
            self.format,
            self.some_panels(output / LANES..output / LANES + 1),
            output % LANES,
            out,
        );
    }

    fn panels(&self) -> usize {
        self.outputs.div_ceil(LANES)
    }

    fn panel_bytes(&self) -> usize {
        pack::panel_bytes(self.format, self.inputs)
    }

    /// Consecutive panels.
    fn some_panels(&self, panels: Range<usize>) -> &[u8] {
        let bytes = self.panel_bytes();
        &self.panels[panels.start * bytes..panels.end * bytes]
    }
}

#[cfg(test)]
mod tests;
