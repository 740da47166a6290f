//! What a model computes on a CPU, below the level of models: matrices, attention over paged KV, norms, rotary embedding.

pub mod activation;
pub mod attention;
pub mod matrix;
pub mod norm;
pub mod pool;
pub mod rope;
mod rows;
mod simd;
pub mod similarity;
