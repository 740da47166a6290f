//! Tensors of a safetensors file, by name and shape.

use reprise_kernels::matrix::{Format, Matrix};
use safetensors::{Dtype, SafeTensors};

/// The tensors below a prefix of names.
#[derive(Clone)]
pub struct Weights<'a> {
    file: &'a SafeTensors<'a>,
    prefix: String,
}

impl<'a> Weights<'a> {
    pub fn of(file: &'a SafeTensors<'a>) -> Self {
        Self { file, prefix: String::new() }
    }

    pub fn below(&self, name: &str) -> Self {
        Self { file: self.file, prefix: format!("{}{name}.", self.prefix) }
    }

    /// `[length]`
    pub fn vector(&self, name: &str, length: usize) -> Result<Vec<f32>, String> {
        self.numbers(name, &[length])
    }

    /// `[rows, columns]`, row by row.
    pub fn table(&self, name: &str, rows: usize, columns: usize) -> Result<Vec<f32>, String> {
        self.numbers(name, &[rows, columns])
    }

    /// `weight` of `[outputs, inputs]` with `bias`.
    pub fn linear(&self, name: &str, outputs: usize, inputs: usize) -> Result<Matrix, String> {
        let layer = self.below(name);
        let bytes = layer.bytes("weight", &[outputs, inputs])?;
        let bias = layer.vector("bias", outputs)?;
        Matrix::pack(Format::F32, outputs, inputs, bytes)
            .and_then(|matrix| matrix.with_bias(bias))
            .map_err(|error| format!("{}weight: {error}", layer.prefix))
    }

    fn numbers(&self, name: &str, shape: &[usize]) -> Result<Vec<f32>, String> {
        let bytes = self.bytes(name, shape)?;
        Ok(bytes.as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect())
    }

    fn bytes(&self, name: &str, shape: &[usize]) -> Result<&'a [u8], String> {
        let name = format!("{}{name}", self.prefix);
        let tensor = self.file.tensor(&name).map_err(|error| format!("{name}: {error}"))?;
        if tensor.dtype() != Dtype::F32 || tensor.shape() != shape {
            return Err(format!("{name} is {:?} {:?}, not F32 {shape:?}", tensor.dtype(), tensor.shape()));
        }
        Ok(tensor.data())
    }
}
