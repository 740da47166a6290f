//! The tensors of a checkpoint as its files hold them: names, shapes, formats and, on demand, bytes. What a device makes of the
//! bytes is its own affair.

pub(crate) mod gguf;
mod random;
mod safetensors;

use std::{fmt, ops::Range};

use reprise_kernels::matrix::Format;

pub(crate) use random::RandomWeights;
pub use safetensors::Safetensors;
pub(crate) use safetensors::read_json;

use crate::EngineError;

/// A tensor as the checkpoint describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorInfo {
    /// Outermost dimension first; elements of the last lie side by side.
    pub shape: Vec<usize>,
    pub format: Format,
}

/// Files that hold tensors.
pub trait TensorSource: fmt::Debug + Send {
    fn names(&self) -> Vec<&str>;

    fn tensor(&self, name: &str) -> Option<&TensorInfo>;

    /// Replaces what `into` holds by the bytes `range` of a tensor, row after row.
    ///
    /// # Errors
    /// There is no such tensor, it has fewer bytes, or the file cannot be read.
    fn read(&mut self, name: &str, range: Range<usize>, into: &mut Vec<u8>) -> Result<(), EngineError>;

    /// Seed and range of a tensor of random weights, which a device may make itself (`reprise_cuda::weights::random`); none, as by
    /// default: it has to be read.
    fn random(&self, name: &str) -> Option<(u64, f32)> {
        let _ = name;
        None
    }
}

impl TensorInfo {
    /// Bytes of the whole tensor; none if its rows do not consist of whole blocks of the format.
    #[must_use]
    pub fn bytes(&self) -> Option<usize> {
        let (row, outer) = self.shape.split_last().unwrap_or((&1, &[]));
        let rows = outer.iter().try_fold(1usize, |rows, size| rows.checked_mul(*size))?;
        self.format.row_bytes(*row)?.checked_mul(rows)
    }
}

/// Where a tensor's bytes lie in a file.
#[derive(Debug, Clone)]
struct Stored {
    info: TensorInfo,
    offset: u64,
    bytes: usize,
}

impl Stored {
    /// `offset` is the tensor's place in a file of `file_bytes`.
    fn new(name: &str, info: TensorInfo, offset: u64, file_bytes: u64) -> Result<Self, EngineError> {
        let bytes = info.bytes().ok_or_else(|| {
            let TensorInfo { shape, format } = &info;
            EngineError::Inconsistent(format!(
                "{name}: rows of shape {shape:?} are no whole blocks of {format:?}"
            ))
        })?;
        if offset.checked_add(bytes as u64).is_none_or(|end| end > file_bytes) {
            return Err(EngineError::Inconsistent(format!(
                "the file is cut off: {name} has {bytes} bytes at {offset}, and the file ends at {file_bytes}"
            )));
        }
        Ok(Self { info, offset, bytes })
    }

    /// The place in the file of `range` of the tensor's bytes.
    fn locate(&self, name: &str, range: &Range<usize>) -> Result<u64, EngineError> {
        if range.start > range.end || range.end > self.bytes {
            return Err(EngineError::Inconsistent(format!("{name} has {} bytes, not {range:?}", self.bytes)));
        }
        Ok(self.offset + range.start as u64)
    }
}
