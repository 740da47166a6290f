//! The models that Reprise runs itself, behind the tier's interface: submit, stream of tokens, cancel, pressure.
//!
//! [`LocalTier`] is the only way in for the gateway. Behind it stand, each in its module: the weights and the
//! forward pass (`model`), text to tokens and back (`text`), and the worker thread with its queue (`worker`).
//! One sequence is computed at a time. Replacing that by a continuous batch changes `worker` and `model` only.
//!
//! Absences: no async runtime (a worker is an OS thread), no network, no knowledge of HTTP or of the cache.

pub mod backend;
pub mod bank;
mod bench;
mod config;
mod device;
mod error;
mod gguf;
pub mod graph;
pub mod loader;
pub mod memory;
mod model;
mod sampler;
pub mod source;
mod speed;
#[cfg(test)]
mod testing;
mod text;
mod tier;
mod worker;

pub use bench::{BenchReport, bench_engine};
pub use config::LocalConfig;
pub use device::DeviceKind;
pub use error::EngineError;
pub use text::{ChatTemplate, Vocabulary};
pub use tier::LocalTier;

/// What tests and tools need to look inside a model file without starting a tier.
pub mod inspect {
    pub use crate::gguf::Gguf;
}
