//! What a model computes on a CPU, below the level of models: matrices, attention over paged KV, norms, rotary embedding.

pub mod matrix;
pub mod pool;
