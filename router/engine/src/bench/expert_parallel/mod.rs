//! Schedules side by side on a model that is spread over devices: CPU threads that compute, or the simulator.

mod machine;
mod real;
mod report;
mod simulated;

use std::{num::NonZeroUsize, path::PathBuf, time::Duration};

use reprise_expert_parallel::{
    ClusterError, RequestError,
    profile::ProfileError,
    simulate::Gates,
    workload::{Arrivals, Lengths, Workload},
};
use reprise_scheduler::{
    BackendError, ConfigError, DeviceId, ModelLayout, Placement, ScheduleKind,
    placement::{Demand, Greedy, Loads, PlacementError, Planner, Roles},
};
use serde_json::Value;
use thiserror::Error;

use crate::EngineError;

/// Same gates, same requests, in every run.
const SEED: u64 = 11;

/// What is measured.
#[derive(Debug, Clone)]
pub struct ExpertParallel {
    pub schedules: Vec<ScheduleKind>,
    pub devices: u16,
    pub roles: Roles,
    /// Devices are streams of so many GPUs, by turns. None: each is a thread of the CPU.
    pub gpus: Option<u16>,
    /// `random:NAME`, a file or a folder; in the simulator also a shape with the H100's rooflines: `mixtral-8x7b`, `olmoe-1b-7b`,
    /// `qwen3-30b-a3b`.
    pub model: String,
    /// Experts of a row, where the shape leaves the choice.
    pub top_k: Option<u16>,
    /// Exponential loads: the least loaded expert has `exp(-skew)` of the most. None: the model's own gates, or even loads without a model.
    pub skew: Option<f64>,
    /// The model's own gates are asked about this text instead of drawn tokens; of a GGUF file's vocabulary.
    pub text: Option<PathBuf>,
    pub experts_per_group: u16,
    /// Copies of hot groups per sub-layer.
    pub replicas: usize,
    pub lengths: Lengths,
    pub arrivals: Arrivals,
    /// Sequences at once on each device with attention.
    pub batch: NonZeroUsize,
    pub prefill_chunk: NonZeroUsize,
    /// Left out, and measured; virtual time in the simulator.
    pub warm_up: Duration,
    pub measured: Duration,
    pub simulate: bool,
    /// In the simulator: a device, and how many times as long as others it takes.
    pub straggler: Option<(u16, f64)>,
    /// Times for the simulator and the roofline schedule, instead of measured or computed ones.
    pub profile: Option<PathBuf>,
    /// Timelines go here: SVG and trace events.
    pub out: Option<PathBuf>,
    /// Everything of every device in the report.
    pub details: bool,
}

/// Why nothing was measured.
#[derive(Debug, Error)]
pub enum ExpertParallelError {
    #[error(transparent)]
    Engine(#[from] EngineError),
    #[error(transparent)]
    Placement(#[from] PlacementError),
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    Cluster(#[from] ClusterError),
    #[error(transparent)]
    Request(#[from] RequestError),
    #[error(transparent)]
    Profile(#[from] ProfileError),
    #[error(transparent)]
    Backend(#[from] BackendError),
    #[error("{path}: {source}")]
    Text { path: PathBuf, source: std::io::Error },
    #[error("a device can be slowed down in the simulator only")]
    Straggler,
    #[error("{path}: {source}")]
    Write { path: PathBuf, source: std::io::Error },
    #[error("the model `{0}` has no experts")]
    Dense(String),
    #[error("--top-k is part of the name of this model: {0}")]
    TopK(String),
}

/// Runs every schedule under the same load, one after the other. One JSON object.
///
/// # Errors
/// The model does not load, does not fit the devices, or a device failed.
pub fn bench_expert_parallel(options: &ExpertParallel) -> Result<Value, ExpertParallelError> {
    if options.simulate { simulated::run(options) } else { real::run(options) }
}

impl ExpertParallel {
    fn workload(&self) -> Workload {
        Workload { lengths: self.lengths, arrivals: self.arrivals, seed: SEED }
    }

    fn attention(&self) -> usize {
        match self.roles {
            Roles::Shared => usize::from(self.devices),
            Roles::Disjoint { attention } => usize::from(attention),
        }
    }

    /// Rows of all lanes of all devices with attention.
    fn rows(&self, schedule: ScheduleKind) -> usize {
        self.attention() * self.ticks().max_rows * usize::from(schedule.lanes())
    }

    /// The bounds of a device's tick.
    fn ticks(&self) -> reprise_scheduler::CoreConfig {
        let (max_sequences, prefill_chunk) = (self.batch.get(), self.prefill_chunk.get());
        reprise_scheduler::CoreConfig {
            max_sequences,
            prefill_chunk,
            max_rows: max_sequences + prefill_chunk,
        }
    }

    /// The most tokens that a sequence comes to.
    fn longest(&self) -> usize {
        (self.lengths.prompt_tokens + self.lengths.generated_tokens) * 3 / 2 + 2
    }

    fn place(&self, layout: &ModelLayout, loads: &Loads) -> Result<Placement, PlacementError> {
        let devices: Vec<_> = (0..self.devices).map(DeviceId).collect();
        Greedy.place(&Demand {
            layout,
            devices: &devices,
            roles: self.roles,
            experts_per_group: self.experts_per_group,
            replicas: self.replicas,
            loads,
        })
    }

    /// Drawn loads, where they are.
    fn skewed(&self, layout: &ModelLayout) -> Option<Loads> {
        self.skew.map(|skew| Gates::skewed(layout, skew, SEED))
    }
}
