//! The models that Reprise runs itself, behind the tier's interface: submit, stream of tokens, cancel, pressure.
//!
//! [`LocalTier`] is the only way in for the gateway. Behind it stand, each in its module: checkpoints (`source`, `loader`) as
//! graphs of sub-layers (`graph`), their computation (`backend`), text to tokens and back (`text`), the choice of the next
//! token (`sampling`), and the worker thread with its queue (`worker`). Which tokens are computed together, and where their KV
//! lies, is decided in `reprise-scheduler`.
//!
//! Absences: no async runtime (a worker is an OS thread), no network, no knowledge of HTTP or of the cache.

pub mod backend;
pub mod bank;
mod bench;
mod config;
mod device;
mod error;
mod gguf;
mod grammar;
pub mod graph;
pub mod loader;
pub mod memory;
mod sampling;
pub mod source;
mod speed;
#[cfg(test)]
mod testing;
mod text;
mod tier;
mod worker;

pub use bench::{
    BenchReport, Checked, ExpertParallel, ExpertParallelBench, ExpertParallelError, Variant, bench_engine,
    check_expert_parallel,
};
pub use config::{LocalConfig, Spread};
pub use device::DeviceKind;
pub use error::EngineError;
pub use reprise_expert_parallel::workload::{Arrivals, Lengths};
pub use reprise_scheduler::{ScheduleKind, placement::Roles, schedule::UnknownSchedule};
pub use text::{ChatTemplate, Vocabulary};
pub use tier::LocalTier;

/// What tests and tools need to look inside a model file without starting a tier.
pub mod inspect {
    pub use crate::gguf::Gguf;
    pub use crate::sampling::{Chosen, Logprobs, Mask, Sampler, SamplingError, TokenMask};
}
