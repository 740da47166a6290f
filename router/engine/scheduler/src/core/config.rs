use thiserror::Error;

use crate::ModelLayout;

/// Bounds of a tick.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CoreConfig {
    /// Sequences with KV at once, at least 1.
    pub max_sequences: usize,
    /// The most rows of prompts in a tick, all sequences together, at least 1: it bounds how long a prompt holds up those
    /// who generate (chunked prefill after Sarathi, arXiv 2308.16369).
    pub prefill_chunk: usize,
    /// The most rows in a tick, at least `max_sequences`, so that all who generate get a token in every tick.
    pub max_rows: usize,
}

/// Why a configuration cannot work.
#[derive(Debug, Error, Clone, Copy, PartialEq, Eq)]
pub enum ConfigError {
    #[error("{0} must be at least 1")]
    Zero(&'static str),
    #[error("max_rows is {max_rows}, less than max_sequences, {max_sequences}")]
    Rows { max_rows: usize, max_sequences: usize },
    #[error("the backend holds {rows} rows, less than max_rows, {max_rows}")]
    Arena { rows: usize, max_rows: usize },
}

impl CoreConfig {
    pub(super) fn check(&self, layout: &ModelLayout) -> Result<(), ConfigError> {
        let bounds = [
            ("max_sequences", self.max_sequences),
            ("prefill_chunk", self.prefill_chunk),
            ("kv_blocks", layout.kv_blocks),
            ("kv_block_tokens", layout.kv_block_tokens),
        ];
        if let Some((name, _)) = bounds.iter().find(|(_, value)| *value == 0) {
            return Err(ConfigError::Zero(name));
        }
        let Self { max_rows, max_sequences, .. } = *self;
        if max_rows < max_sequences {
            return Err(ConfigError::Rows { max_rows, max_sequences });
        }
        if layout.rows < max_rows {
            return Err(ConfigError::Arena { rows: layout.rows, max_rows });
        }
        Ok(())
    }
}

/// Why a sequence can never be computed here.
#[derive(Debug, Error, Clone, Copy, PartialEq, Eq)]
pub enum StartError {
    #[error("the prompt is empty")]
    Empty,
    #[error("{tokens} tokens are more than the context of {context_length}")]
    Context { tokens: usize, context_length: usize },
    /// All KV memory would not hold it, even alone.
    #[error("{tokens} tokens need {needed} KV blocks, and there are {blocks}")]
    Kv { tokens: usize, needed: usize, blocks: usize },
}
