use thiserror::Error;

use crate::StoreError;

/// Why the cache could not do what it was asked. It never keeps a request from being answered.
#[derive(Debug, Error)]
pub enum CacheError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("a vector has {got} dimensions, but the embedder makes {expected}")]
    Dimensions { expected: usize, got: usize },
    #[error("there is no example {0}")]
    UnknownExample(crate::ExampleId),
    #[error("{0}")]
    Refused(#[from] crate::Refusal),
}
