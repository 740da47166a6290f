//! Schedules side by side on a model that is spread over devices: CPU threads that compute, or the simulator.

mod check;
mod drive;
mod link;
mod loads;
mod machine;
mod natural;
mod real;
mod report;
mod simulated;
mod turns;
mod variant;

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
    schedule::ControlConfig,
};
use serde_json::Value;
use thiserror::Error;

use crate::{DeviceKind, EngineError};

pub use check::{Checked, check_expert_parallel};
use machine::Loaded;
pub use variant::Variant;

/// Same gates, same requests, in every run.
const SEED: u64 = 11;

/// What is measured.
#[derive(Debug, Clone)]
pub struct ExpertParallel {
    pub variants: Vec<Variant>,
    /// All threads of the CPU, or all streams of GPUs; of one GPU several times where it is named so.
    pub devices: Vec<DeviceKind>,
    pub roles: Roles,
    /// `random:NAME`, a file or a folder; in the simulator also a shape with the H100's rooflines: `mixtral-8x7b`, `olmoe-1b-7b`,
    /// `qwen3-30b-a3b`.
    pub model: String,
    /// Fewer layers than a shape has, and other experts of a row.
    pub layers: Option<u16>,
    pub top_k: Option<u16>,
    /// Exponential loads: the least loaded expert has `exp(-skew)` of the most. None: the model's own gates, or even loads without a model.
    pub skew: Option<f64>,
    /// The model's own gates are asked about this text instead of drawn tokens; of a GGUF file's vocabulary.
    pub text: Option<PathBuf>,
    /// In the simulator: loads that a run reported, instead of these gates.
    pub loads: Option<PathBuf>,
    pub experts_per_group: u16,
    /// Copies of hot groups per sub-layer, where a variant does not say.
    pub replicas: usize,
    pub lengths: Lengths,
    pub arrivals: Arrivals,
    /// Sequences at once on each device with attention.
    pub batch: NonZeroUsize,
    pub prefill_chunk: NonZeroUsize,
    /// KV blocks of each device with attention; none: as many as the sequences need.
    pub kv_blocks: Option<usize>,
    /// All variants run so often, each time in another order.
    pub repeats: NonZeroUsize,
    /// Left out, and measured; virtual time in the simulator.
    pub warm_up: Duration,
    pub measured: Duration,
    /// The variants take turns of so long, in one cluster, instead of one cluster for each after the other.
    pub turn: Option<Duration>,
    /// Instead of `warm_up` and `measured` for a schedule that first finds its pace and later looks for a better one, and how long it looks.
    pub adaptive_warm_up: Duration,
    pub adaptive_measured: Duration,
    pub control_window: Duration,
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
    #[error("{path}: {source}")]
    Loads { path: PathBuf, source: serde_json::Error },
    #[error("{0}: loads of another model")]
    OtherLoads(PathBuf),
    #[error("a device can be slowed down in the simulator only")]
    Straggler,
    #[error("`{variant}` takes no turns: {why}")]
    NoTurn { variant: Variant, why: &'static str },
    #[error("devices must be all `cpu` or all `cuda:N`")]
    Devices,
    #[error("{path}: {source}")]
    Write { path: PathBuf, source: std::io::Error },
    #[error("the model `{0}` has no experts")]
    Dense(String),
    #[error("layers and experts of a token are those of the file: {0}")]
    Fixed(String),
}

/// Measures one load after the other; a model is loaded, and its times are measured, once for all loads on it that follow each other.
#[derive(Default)]
pub struct ExpertParallelBench {
    loaded: Option<(Key, Loaded)>,
}

/// What a loaded model is told by.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Key {
    model: String,
    layers: Option<u16>,
    top_k: Option<u16>,
    devices: Vec<DeviceKind>,
}

impl ExpertParallelBench {
    /// Runs every variant under the same load, one after the other. One JSON object.
    ///
    /// # Errors
    /// The model does not load, does not fit the devices, or a device failed.
    pub fn run(&mut self, options: &ExpertParallel) -> Result<Value, ExpertParallelError> {
        if options.simulate {
            return simulated::run(options);
        }
        if options.straggler.is_some() {
            return Err(ExpertParallelError::Straggler);
        }
        let key = Key {
            model: options.model.clone(),
            layers: options.layers,
            top_k: options.top_k,
            devices: options.devices.clone(),
        };
        let loaded = match self.loaded.take() {
            Some((known, loaded)) if known == key => loaded,
            other => {
                // Its memory first.
                drop(other);
                Loaded::new(options)?
            }
        };
        // What a failure left behind is not used again.
        let (_, loaded) = self.loaded.insert((key, loaded));
        let outcome = loaded.run(options);
        if outcome.is_err() {
            self.loaded = None;
        }
        outcome
    }
}

impl std::fmt::Debug for ExpertParallelBench {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ExpertParallelBench")
            .field("loaded", &self.loaded.as_ref().map(|(key, _)| key))
            .finish()
    }
}

impl ExpertParallel {
    fn count(&self) -> u16 {
        u16::try_from(self.devices.len()).unwrap_or(u16::MAX)
    }

    /// What each device computes on.
    fn processors(&self) -> Vec<usize> {
        let first = |device: &DeviceKind| self.devices.iter().position(|other| other == device).unwrap_or(0);
        let of = |(at, device): (usize, &DeviceKind)| match device {
            DeviceKind::Cpu => at,
            DeviceKind::Cuda(_) => first(device),
        };
        self.devices.iter().enumerate().map(of).collect()
    }

    /// Several devices compute on the same one.
    fn shares_processors(&self) -> bool {
        let processors = self.processors();
        (1..processors.len()).any(|at| processors[..at].contains(&processors[at]))
    }

    fn control(&self) -> ControlConfig {
        let window = self.control_window;
        let own = ControlConfig::default();
        // A shorter look is of fewer rows, and leaves less out.
        let share = |time: Duration| time.mul_f64(window.as_secs_f64() / own.window.as_secs_f64());
        let rows = (own.rows as f64 * window.as_secs_f64() / own.window.as_secs_f64()).ceil() as u64;
        ControlConfig { window, settle: share(own.settle), rows: rows.max(1), ..own }
    }

    fn warm_up(&self, schedule: ScheduleKind) -> Duration {
        if schedule == ScheduleKind::Adaptive { self.adaptive_warm_up } else { self.warm_up }
    }

    fn measured(&self, schedule: ScheduleKind) -> Duration {
        if schedule == ScheduleKind::Adaptive { self.adaptive_measured } else { self.measured }
    }

    fn workload(&self) -> Workload {
        Workload { lengths: self.lengths, arrivals: self.arrivals, seed: SEED }
    }

    fn attention(&self) -> usize {
        match self.roles {
            Roles::Shared => self.devices.len(),
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

    fn place(
        &self,
        layout: &ModelLayout,
        loads: &Loads,
        replicas: usize,
    ) -> Result<Placement, PlacementError> {
        let devices: Vec<_> = (0..self.count()).map(DeviceId).collect();
        let placement = Greedy.place(&Demand {
            layout,
            devices: &devices,
            roles: self.roles,
            experts_per_group: self.experts_per_group,
            replicas,
            loads,
        })?;
        Ok(if self.shares_processors() { placement.on_shared_processors() } else { placement })
    }

    /// Drawn loads, where they are.
    fn skewed(&self, layout: &ModelLayout) -> Option<Loads> {
        self.skew.map(|skew| Gates::skewed(layout, skew, SEED))
    }
}
