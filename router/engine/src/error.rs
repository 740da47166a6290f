use std::path::PathBuf;

use thiserror::Error;

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
    #[error("chat template: {0}")]
    Template(#[from] minijinja::Error),
    #[error("tokenizer: {0}")]
    Tokenizer(String),
    #[error("unknown device `{0}`: expected `cpu` or `cuda:N`")]
    UnknownDevice(String),
    #[error("shut down while loading")]
    Stopped,
    #[error("compute: {0}")]
    Compute(#[from] candle_core::Error),
}
