//! Where models are computed: implementations of the scheduler's [`Backend`](reprise_scheduler::Backend).

mod cpu;

pub use cpu::{CpuBackend, CpuModel, CpuOptions, MemoryEstimate, Progress};
