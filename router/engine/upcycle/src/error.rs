use std::{io, path::PathBuf};

use thiserror::Error;

/// Why a file is not taken for a GGUF model.
#[derive(Debug, Error)]
pub enum GgufError {
    #[error("cannot be read: {0}")]
    Io(#[from] io::Error),
    #[error("is no GGUF file")]
    Magic,
    #[error("has GGUF version {0}; 2 and 3 are read")]
    Version(u32),
    #[error("ends within its header")]
    Short,
    #[error("has metadata of the unknown type {kind} under {key}")]
    ValueType { key: String, kind: u32 },
    #[error("holds a name that is not UTF-8")]
    Utf8,
    #[error("has the alignment {0}, which is no power of two")]
    Alignment(u64),
    #[error("holds the tensor {name} in the unknown format {format}")]
    Format { name: String, format: u32 },
    #[error(
        "holds the tensor {name} of shape {shape:?}, which is not a whole number of blocks or is too large"
    )]
    Shape { name: String, shape: Vec<u64> },
    #[error("is cut off: the tensor {name} ends at byte {end}, the file at {length}")]
    Truncated { name: String, end: u64, length: u64 },
}

/// Why a model was not upcycled. Shapes are those of the file, fastest dimension first.
#[derive(Debug, Error)]
pub enum UpcycleError {
    #[error("{path} {source}")]
    Source { path: PathBuf, source: GgufError },
    #[error("cannot write {path}: {source}")]
    Write { path: PathBuf, source: io::Error },
    #[error("{0} is both the source and the target")]
    SameFile(PathBuf),
    #[error("the architecture `{0}` cannot be upcycled, only `llama`")]
    Architecture(String),
    #[error("the model has {0} experts already")]
    NotDense(u32),
    #[error("the model file lacks {0}")]
    MissingMetadata(&'static str),
    #[error("the model file lacks the tensor {0}")]
    MissingTensor(String),
    #[error("the tensor {name} has the shape {shape:?}, not {expected:?}")]
    Shape { name: String, shape: Vec<u64>, expected: Vec<u64> },
    #[error("the tensor {0} is a bias, which experts in a llama-architecture file do not have")]
    Bias(String),
    #[error("the model has the layers 0 to {last}; {layer} is none of them")]
    NoSuchLayer { layer: u32, last: u32 },
    #[error("no layer was chosen")]
    NoLayer,
    #[error("{0} experts were asked for; 2 to 512 can be had")]
    Experts(u16),
    #[error("a token cannot go to {top_k} of {experts} experts")]
    TopK { top_k: u16, experts: u16 },
}
