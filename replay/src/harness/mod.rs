//! Ablation made cheap: each distinct prompt is generated once, at temperature 0, and every policy and every ablation is
//! evaluated from the same table of runs.
//!
//! - [`table`]: append-only files of runs, keyed by model hash, full prompt and sampling, and of text embeddings.
//! - [`library`]: the pool of known good answers, searched exactly, with the leakage guard.
//! - [`arm`]: the ways to make a prompt that are compared.
//! - [`collect`]: asks a gateway for what the table lacks, and writes one outcome a request and arm.
//! - [`answers`]: a tier's own answers as a pool, curated or not.
//! - [`outcome`]: those outcomes, which simulation and training read.

pub mod answers;
pub mod arm;
pub mod collect;
pub mod library;
pub mod outcome;
pub mod table;
#[cfg(test)]
pub mod testing;
