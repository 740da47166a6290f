use std::{io, path::PathBuf};

use reprise_kernels::matrix::{Format, MatrixError};
use thiserror::Error;

use super::{BankHash, ExpertMatrix, Shape};

/// Why a delta cannot be had or does not fit. Shapes are `[outputs, inputs]`.
#[derive(Debug, Error)]
pub enum BankError {
    #[error("{path}: {source}")]
    Io { path: PathBuf, source: io::Error },
    #[error("{path} is no expert bank delta: {reason}")]
    NotADelta { path: PathBuf, reason: String },
    #[error("`{0}` is no SHA-256 in hexadecimal")]
    Hash(String),
    #[error("{name} v{version} is made for the parent {wanted}; the bank ends at {found}")]
    Parent { name: String, version: u32, wanted: BankHash, found: BankHash },
    #[error("{name} v{version} does not come after v{after}")]
    Version { name: String, version: u32, after: u32 },
    #[error("{name} v{version} changes {matrix}, which the model does not have")]
    NoSuchMatrix { name: String, version: u32, matrix: ExpertMatrix },
    #[error("{matrix} has the shape {found:?} in the delta; the model has {expected:?}")]
    Shape { matrix: ExpertMatrix, expected: Shape, found: Shape },
    #[error("{matrix} of shape {shape:?} takes {expected:?} bytes as {format:?}; the delta has {found}")]
    Bytes { matrix: ExpertMatrix, format: Format, shape: Shape, expected: Option<usize>, found: usize },
    #[error("{matrix} of shape {shape:?} adds {found} numbers")]
    Numbers { matrix: ExpertMatrix, shape: Shape, found: usize },
    #[error("{matrix} holds a number that is not finite")]
    NotFinite { matrix: ExpertMatrix },
    #[error("other devices compute with the same weights")]
    InUse,
    #[error("the centroid has the length {0}, not 1")]
    Centroid(f32),
    #[error("{matrix}: {source}")]
    Matrix { matrix: ExpertMatrix, source: MatrixError },
}
