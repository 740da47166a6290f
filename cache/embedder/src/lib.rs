//! all-MiniLM-L6-v2 on the engine's kernels: text to unit vector, batched on its own threads.
//!
//! Model card: <https://huggingface.co/sentence-transformers/all-MiniLM-L6-v2>. Mean of the token states over the attention
//! mask, scaled to length 1, 384 dimensions. A crate of its own, so that `reprise-cache` builds and tests without a
//! tokenizer and kernels.

mod batch;
mod bert;
mod model;
mod weights;
mod worker;

use std::{
    fmt,
    num::NonZeroUsize,
    path::{Path, PathBuf},
    sync::Arc,
};

use async_trait::async_trait;
use reprise_cache::{EmbedError, Embedder, ModelHash, UnitVector};
use reprise_kernels::pool::PoolError;
use thiserror::Error;

use model::Bert;
use worker::Workers;

/// How texts are embedded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EmbedderConfig {
    /// Workers, each with one batch at a time.
    pub threads: usize,
    /// Threads that compute one worker's batch together, the worker's own included.
    pub compute_threads: usize,
    /// Texts that are embedded together, at most.
    pub max_batch: usize,
    /// Texts that wait, at most; one more is refused at once.
    pub queue_capacity: usize,
    /// A longer text keeps its beginning and its end, half each: the task stands in the one and the question in the other.
    pub max_tokens: usize,
}

impl Default for EmbedderConfig {
    fn default() -> Self {
        Self {
            threads: 1,
            compute_threads: cores().min(2),
            max_batch: 16,
            queue_capacity: 256,
            max_tokens: 256,
        }
    }
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, NonZeroUsize::get)
}

/// The embedder. Dropping it ends its threads once their batch is done.
pub struct MiniLm {
    hash: ModelHash,
    model: Arc<Bert>,
    workers: Workers,
}

/// Why the embedder did not load.
#[derive(Debug, Error)]
pub enum LoadError {
    #[error("{path}: {reason}")]
    File { path: PathBuf, reason: String },
    #[error("the embedder's threads cannot be started: {0}")]
    Threads(std::io::Error),
    #[error("the embedder's compute threads cannot be started: {0}")]
    Pool(#[from] PoolError),
}

impl MiniLm {
    /// Loads `model.safetensors`, `tokenizer.json` and `config.json` from a folder. Takes a second; blocks on the disk.
    ///
    /// # Errors
    /// A file is missing or is not what it should be.
    pub fn load(folder: &Path, config: &EmbedderConfig) -> Result<Self, LoadError> {
        let (model, hash) = Bert::load(folder, config.max_tokens)?;
        let model = Arc::new(model);
        let workers = Workers::start(&model, config)?;
        Ok(Self { hash, model, workers })
    }

    /// One vector for each text, computed together whatever `max_batch` is: they share each read of the weights.
    ///
    /// # Errors
    /// As of [`Embedder::embed`]; all or none.
    pub async fn embed_all(&self, texts: &[&str]) -> Result<Vec<UnitVector>, EmbedError> {
        let texts = texts.iter().map(|text| (*text).to_owned()).collect();
        self.workers.submit(texts)?.await.map_err(|_| EmbedError::Stopped)?
    }
}

#[async_trait]
impl Embedder for MiniLm {
    fn model_hash(&self) -> ModelHash {
        self.hash
    }

    fn dimensions(&self) -> usize {
        self.model.dimensions()
    }

    fn max_tokens(&self) -> usize {
        self.model.max_tokens()
    }

    fn count_tokens(&self, text: &str) -> Result<usize, EmbedError> {
        self.model.count_tokens(text).map_err(EmbedError::Failed)
    }

    async fn embed(&self, text: &str) -> Result<UnitVector, EmbedError> {
        self.embed_all(&[text]).await?.pop().ok_or(EmbedError::Stopped)
    }
}

impl fmt::Debug for MiniLm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MiniLm").field("hash", &self.hash).finish_non_exhaustive()
    }
}
