//! What computes in a measurement: devices that share a model.

use std::{num::NonZeroUsize, path::Path};

use reprise_kernels::attention::{BLOCK_TOKENS, KvFormat};
use reprise_scheduler::{Backend, Exchange, ModelLayout, ScheduleKind, SubLayerKind};

use super::{ExpertParallel, ExpertParallelError};
use crate::{
    backend::{CpuBackend, CpuOptions},
    loader::Checkpoint,
};

/// Makes devices of one model.
pub(super) trait Machine {
    type Device: Exchange<Payload: Send + 'static> + Send + 'static;

    fn layout(&self) -> &ModelLayout;

    /// The `index`-th device, with room for the rows that a schedule has in flight on all of them.
    fn device(
        &self,
        options: &ExpertParallel,
        schedule: ScheduleKind,
        index: u16,
    ) -> Result<Self::Device, ExpertParallelError>;

    /// Of one device.
    fn name(&self) -> String;
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
        let cores = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
        format!("one thread of a CPU of {cores} cores")
    }
}

/// Streams of GPUs, by turns: weights are on each GPU once.
#[cfg(feature = "cuda")]
pub(super) struct Streams(Vec<crate::backend::cuda::CudaBackend>);

#[cfg(feature = "cuda")]
impl Streams {
    pub(super) fn load(options: &ExpertParallel, gpus: u16) -> Result<Self, ExpertParallelError> {
        let load = |ordinal| {
            let mut checkpoint = checkpoint(options)?;
            let options = cuda_options(options, ScheduleKind::Lockstep, ordinal);
            let never = || false;
            let loaded =
                crate::backend::cuda::CudaBackend::load(&mut checkpoint, &options, &mut |_| {}, &never)?;
            Ok::<_, ExpertParallelError>(loaded)
        };
        Ok(Self((0..gpus.max(1)).map(load).collect::<Result<_, _>>()?))
    }
}

#[cfg(feature = "cuda")]
impl Machine for Streams {
    type Device = crate::backend::cuda::CudaBackend;

    fn layout(&self) -> &ModelLayout {
        self.0[0].layout()
    }

    fn device(
        &self,
        options: &ExpertParallel,
        schedule: ScheduleKind,
        index: u16,
    ) -> Result<Self::Device, ExpertParallelError> {
        let ordinal = usize::from(index) % self.0.len();
        let count = u16::try_from(ordinal).unwrap_or(0);
        Ok(self.0[ordinal].sibling(&cuda_options(options, schedule, count))?)
    }

    fn name(&self) -> String {
        format!("a stream of {} of {} GPUs", self.0[0].device().name(), self.0.len())
    }
}

/// The checkpoint, if it is one of a mixture of experts.
fn checkpoint(options: &ExpertParallel) -> Result<Checkpoint, ExpertParallelError> {
    if options.top_k.is_some() {
        return Err(ExpertParallelError::TopK(options.model.clone()));
    }
    let checkpoint = match options.model.strip_prefix("random:") {
        Some(shape) => Checkpoint::random(shape)?,
        None => Checkpoint::open(Path::new(&options.model))?,
    };
    Ok(checkpoint)
}

/// All of it or nothing: a model without experts cannot be spread.
pub(super) fn gated(options: &ExpertParallel, layout: &ModelLayout) -> Result<(), ExpertParallelError> {
    let gated = layout.sub_layers.iter().any(|kind| matches!(kind, SubLayerKind::Experts { .. }));
    if gated { Ok(()) } else { Err(ExpertParallelError::Dense(options.model.clone())) }
}

/// KV blocks of a device with attention.
fn kv_blocks(options: &ExpertParallel) -> usize {
    (options.longest().div_ceil(BLOCK_TOKENS) + 1) * options.batch.get()
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

#[cfg(feature = "cuda")]
fn cuda_options(
    options: &ExpertParallel,
    schedule: ScheduleKind,
    ordinal: u16,
) -> crate::backend::cuda::CudaOptions {
    crate::backend::cuda::CudaOptions {
        ordinal: ordinal.into(),
        rows: options.rows(schedule),
        sequences: options.batch.get(),
        kv_blocks: kv_blocks(options),
        context_length: Some(options.longest().next_multiple_of(BLOCK_TOKENS)),
    }
}
