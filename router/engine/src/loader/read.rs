use half::{bf16, f16};
use reprise_kernels::matrix::Format;

use super::{MatrixPlan, VectorPlan};
use crate::{EngineError, source::TensorSource};

/// The bytes of a matrix, without its bias.
pub(crate) fn read_matrix(
    source: &mut dyn TensorSource,
    plan: &MatrixPlan,
    into: &mut Vec<u8>,
) -> Result<(), EngineError> {
    source.read(&plan.tensor, plan.start..plan.start + plan.bytes(), into)
}

/// A vector in f32. `buffer` is overwritten.
pub(crate) fn read_vector(
    source: &mut dyn TensorSource,
    plan: &VectorPlan,
    buffer: &mut Vec<u8>,
) -> Result<Vec<f32>, EngineError> {
    source.read(&plan.tensor, 0..plan.bytes(), buffer)?;
    let (pairs, quads) = (buffer.as_chunks::<2>().0, buffer.as_chunks::<4>().0);
    match plan.format {
        Format::F32 => Ok(quads.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect()),
        Format::F16 => Ok(pairs.iter().map(|bytes| f16::from_le_bytes(*bytes).to_f32()).collect()),
        Format::BF16 => Ok(pairs.iter().map(|bytes| bf16::from_le_bytes(*bytes).to_f32()).collect()),
        other => Err(EngineError::Unsupported {
            what: "format of a vector",
            value: format!("{other:?} of {}", plan.tensor),
            supported: "F32, F16, BF16",
        }),
    }
}
