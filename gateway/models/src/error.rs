use std::{fmt, io, path::PathBuf};

use thiserror::Error;

/// Why a model is not there.
#[derive(Debug, Error)]
pub enum PullError {
    #[error("no model is named \"{name}\"; known are: {}", known.join(", "))]
    Unknown { name: String, known: Vec<String> },
    /// Every source was tried; none yielded the bytes that the manifest names.
    #[error("the model \"{name}\" could not be had: {}", list(attempts))]
    Unavailable { name: String, attempts: Vec<Attempt> },
    #[error("{path}: {source}")]
    Folder { path: PathBuf, source: io::Error },
}

/// A source that did not yield a file, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attempt {
    pub source: String,
    pub reason: String,
}

impl fmt::Display for Attempt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.source, self.reason)
    }
}

fn list(attempts: &[Attempt]) -> String {
    attempts.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}
