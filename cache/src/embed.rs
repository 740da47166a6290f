use std::fmt;

use async_trait::async_trait;
use thiserror::Error;

use crate::{ModelHash, UnitVector, VectorError};

/// Turns text into a direction: texts that mean alike point alike.
#[async_trait]
pub trait Embedder: Send + Sync + fmt::Debug + 'static {
    /// Identifies the weights; vectors of another hash are never compared with these.
    fn model_hash(&self) -> ModelHash;

    fn dimensions(&self) -> usize;

    /// The most tokens of a text that shape its vector; of a longer one only a part is read.
    fn max_tokens(&self) -> usize;

    /// How many tokens a text has, uncut, with the marks around it. Computes: not for an async thread.
    ///
    /// # Errors
    /// [`EmbedError::Failed`].
    fn count_tokens(&self, text: &str) -> Result<usize, EmbedError>;

    /// Dropping the future abandons the work.
    ///
    /// # Errors
    /// See [`EmbedError`]; none is the client's fault.
    async fn embed(&self, text: &str) -> Result<UnitVector, EmbedError>;
}

/// Why there is no vector.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum EmbedError {
    #[error("the embedder's queue is full")]
    Overloaded,
    #[error("the embedder has stopped")]
    Stopped,
    #[error("the text has no direction: {0}")]
    Vector(#[from] VectorError),
    #[error("the embedder failed: {0}")]
    Failed(String),
}
