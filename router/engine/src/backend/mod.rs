//! Where models are computed: implementations of the scheduler's [`Backend`](reprise_scheduler::Backend).

mod cpu;
#[cfg(feature = "cuda")]
pub mod cuda;

pub use cpu::{CpuBackend, CpuModel, CpuOptions, MemoryEstimate, Progress};
