use std::path::PathBuf;

use reprise_kernels::{attention::KvCacheError, matrix::MatrixError};
use thiserror::Error;

use crate::{
    backend::MemoryEstimate,
    memory::{AvailableMemory, megabytes},
};

/// Why a model cannot be loaded or run. Shown to an operator.
#[derive(Debug, Error)]
pub enum EngineError {
    #[error("cannot open {path}: {source}")]
    Open { path: PathBuf, source: std::io::Error },
    #[error("cannot start a thread: {0}")]
    Thread(String),
    #[error("the model file lacks {key}")]
    MissingMetadata { key: String },
    #[error("{what} `{value}` is not supported (supported: {supported})")]
    Unsupported { what: &'static str, value: String, supported: &'static str },
    #[error("the model file is inconsistent: {0}")]
    Inconsistent(String),
    #[error("the checkpoint lacks the tensor {name}")]
    MissingTensor { name: String },
    #[error("{name} has the shape {found:?}; the rest of the checkpoint calls for {expected:?}")]
    TensorShape { name: String, expected: Vec<usize>, found: Vec<usize> },
    #[error("the tensor {name} is not part of a {family} model")]
    UnknownTensor { name: String, family: &'static str },
    #[error("{name}: {source}")]
    Matrix { name: String, source: MatrixError },
    #[error("KV: {0}")]
    KvCache(#[from] KvCacheError),
    #[error("chat template: {0}")]
    Template(#[from] minijinja::Error),
    #[error("tokenizer: {0}")]
    Tokenizer(String),
    #[error("unknown device `{0}`: expected `cpu` or `cuda:N`")]
    UnknownDevice(String),
    #[error("the model takes {}; only {} are available ({})", predicted, megabytes(available.bytes), available.bound)]
    Memory { predicted: MemoryEstimate, available: AvailableMemory },
    #[cfg(feature = "cuda")]
    #[error(transparent)]
    Cuda(#[from] reprise_cuda::CudaError),
    #[error("shut down while loading")]
    Stopped,
    #[error("compute: {0}")]
    Compute(#[from] candle_core::Error),
}
