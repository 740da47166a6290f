//! What `reprise bench` measures of the engine.

mod engine;
mod expert_parallel;

pub use engine::{BenchReport, bench_engine};
pub use expert_parallel::{
    Checked, ExpertParallel, ExpertParallelBench, ExpertParallelError, Variant, check_expert_parallel,
};
