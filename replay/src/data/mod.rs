//! What replay reads: evaluation requests, arrival times and known good pairs. Rows are checked once, here.

pub mod arrivals;
pub mod pairs;
pub mod requests;
pub mod sample;

use std::path::{Path, PathBuf};

use thiserror::Error;

/// A data file that cannot be used, and where it went wrong.
#[derive(Debug, Error)]
pub enum DataError {
    #[error("{}: {source}", path.display())]
    Io { path: PathBuf, source: std::io::Error },
    #[error("{}:{line}: {message}", path.display())]
    Row { path: PathBuf, line: usize, message: String },
    #[error("{}: {message}", path.display())]
    File { path: PathBuf, message: String },
}

impl DataError {
    pub(crate) fn io(path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { path, source }
    }
}

/// The file's name without its extension: names the data set a row came from.
pub(crate) fn stem(path: &Path) -> String {
    path.file_stem().map_or_else(|| path.display().to_string(), |stem| stem.to_string_lossy().into_owned())
}
