//! What computes in a measurement: devices that share a model.

use std::{num::NonZeroUsize, path::Path, time::Duration};

use reprise_expert_parallel::transport::SPIN;
use reprise_kernels::attention::{BLOCK_TOKENS, KvFormat};
use reprise_scheduler::{Backend, Exchange, ModelLayout, ScheduleKind, SubLayerKind};
use serde_json::Value;

use super::{
    ExpertParallel, ExpertParallelError,
    real::{Known, run_on},
};
use crate::{
    DeviceKind,
    backend::{CpuBackend, CpuOptions},
    loader::Checkpoint,
};

#[cfg(feature = "cuda")]
mod streams;

/// Makes devices of one model.
pub(super) trait Machine {
    type Device: Exchange<Payload: Send + 'static> + Send + 'static;

    fn layout(&self) -> &ModelLayout;

    /// The `index`-th device alone, with room for the rows that a schedule has in flight on all of them.
    fn device(
        &self,
        options: &ExpertParallel,
        schedule: ScheduleKind,
        index: u16,
    ) -> Result<Self::Device, ExpertParallelError>;

    /// All of them, with ways to each other.
    fn devices(
        &self,
        options: &ExpertParallel,
        schedule: ScheduleKind,
    ) -> Result<Vec<Self::Device>, ExpertParallelError> {
        (0..options.count()).map(|index| self.device(options, schedule, index)).collect()
    }

    /// Of one device.
    fn name(&self) -> String;

    /// Entries of the largest call that is measured alone.
    fn many(&self) -> usize;

    /// How long a thread looks for a message before it parks.
    fn spin(&self) -> Duration;
}

/// Devices of one kind, and what is known of the model on them.
pub(super) enum Loaded {
    Threads(Box<Threads>, Known),
    #[cfg(feature = "cuda")]
    Streams(streams::Streams, Known),
}

impl Loaded {
    pub(super) fn new(options: &ExpertParallel) -> Result<Self, ExpertParallelError> {
        let on_cpu = options.devices.iter().filter(|device| **device == DeviceKind::Cpu).count();
        if on_cpu == options.devices.len() && on_cpu > 0 {
            return Ok(Self::Threads(Box::new(Threads::load(options)?), Known::default()));
        }
        if on_cpu > 0 || options.devices.is_empty() {
            return Err(ExpertParallelError::Devices);
        }
        Self::on_gpus(options)
    }

    #[cfg(feature = "cuda")]
    fn on_gpus(options: &ExpertParallel) -> Result<Self, ExpertParallelError> {
        Ok(Self::Streams(streams::Streams::load(options)?, Known::default()))
    }

    #[cfg(not(feature = "cuda"))]
    fn on_gpus(options: &ExpertParallel) -> Result<Self, ExpertParallelError> {
        let value = options.devices.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
        let supported = "the CPU (this binary was built without the feature `cuda`)";
        Err(crate::EngineError::Unsupported { what: "devices", value, supported }.into())
    }

    pub(super) fn run(&mut self, options: &ExpertParallel) -> Result<Value, ExpertParallelError> {
        match self {
            Self::Threads(threads, known) => run_on(options, &**threads, known),
            #[cfg(feature = "cuda")]
            Self::Streams(streams, known) => run_on(options, streams, known),
        }
    }
}

/// Threads of the CPU, each a device; weights are in memory once.
pub(super) struct Threads(CpuBackend);

impl Threads {
    pub(super) fn load(options: &ExpertParallel) -> Result<Self, ExpertParallelError> {
        let mut checkpoint = checkpoint(options)?;
        let options = cpu_options(options, ScheduleKind::Lockstep);
        Ok(Self(CpuBackend::load(&mut checkpoint, &options, &mut |_| {}, &|| false)?))
    }
}

impl Machine for Threads {
    type Device = CpuBackend;

    fn layout(&self) -> &ModelLayout {
        self.0.layout()
    }

    fn device(
        &self,
        options: &ExpertParallel,
        schedule: ScheduleKind,
        _: u16,
    ) -> Result<CpuBackend, ExpertParallelError> {
        Ok(self.0.sibling(&cpu_options(options, schedule))?)
    }

    fn name(&self) -> String {
        format!("one thread of a CPU of {} cores", cores())
    }

    fn many(&self) -> usize {
        64
    }

    fn spin(&self) -> Duration {
        SPIN
    }
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, NonZeroUsize::get)
}

/// The checkpoint, if it is one of a mixture of experts.
fn checkpoint(options: &ExpertParallel) -> Result<Checkpoint, ExpertParallelError> {
    let cut = |count: Option<u16>| count.map(usize::from);
    match options.model.strip_prefix("random:") {
        Some(shape) => Ok(Checkpoint::random_cut(shape, cut(options.layers), cut(options.top_k))?),
        None if options.layers.is_some() || options.top_k.is_some() => {
            Err(ExpertParallelError::Fixed(options.model.clone()))
        }
        None => Ok(Checkpoint::open(Path::new(&options.model))?),
    }
}

/// All of it or nothing: a model without experts cannot be spread.
pub(super) fn gated(options: &ExpertParallel, layout: &ModelLayout) -> Result<(), ExpertParallelError> {
    let gated = layout.sub_layers.iter().any(|kind| matches!(kind, SubLayerKind::Experts { .. }));
    if gated { Ok(()) } else { Err(ExpertParallelError::Dense(options.model.clone())) }
}

/// KV blocks of a device with attention.
fn kv_blocks(options: &ExpertParallel) -> usize {
    options.kv_blocks.unwrap_or((options.longest().div_ceil(BLOCK_TOKENS) + 1) * options.batch.get())
}

fn cpu_options(options: &ExpertParallel, schedule: ScheduleKind) -> CpuOptions {
    CpuOptions {
        threads: NonZeroUsize::MIN,
        rows: options.rows(schedule),
        kv_blocks: kv_blocks(options),
        kv_format: KvFormat::F32,
        context_length: None,
    }
}
