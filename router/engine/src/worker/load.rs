use std::{sync::atomic::Ordering::Relaxed, time::Instant};

use reprise_expert_parallel::Cluster;
use reprise_scheduler::{Backend, ConfigError, Finished, Moment, NewSequence, Pipeline, Priority};
use reprise_tier::TierInfo;

use super::{Loaded, Shared, cluster, spread::Requests};
use crate::{
    DeviceKind, EngineError, LocalConfig,
    backend::{CpuBackend, MemoryEstimate},
    gguf::Gguf,
    grammar::Grammars,
    loader::Checkpoint,
    memory::{self, AvailableMemory},
    speed::Meter,
    text::PromptBuilder,
};

/// What computes.
pub(super) enum Model {
    Alone(Box<dyn Backend>, Box<Pipeline>),
    Spread { cluster: Box<Cluster<Vec<f32>>>, requests: Requests, places: usize },
}

/// Reads the model file and makes everything ready that the worker needs.
pub(super) fn load(shared: &Shared) -> Result<Model, EngineError> {
    let config = &shared.config;
    let gguf = Gguf::open(&config.gguf)?;
    let prompts = PromptBuilder::from_gguf(&gguf)?;
    let checkpoint = Checkpoint::from_gguf(gguf)?;
    let stop = || shared.stopping.load(Relaxed);
    let (model, context_length) = match &config.spread {
        None => {
            let mut backend = open(config, checkpoint, &stop)?;
            warm_up(&mut *backend, config, &shared.meter)?;
            let pipeline = pipeline(config, &backend)?;
            let context_length = backend.layout().context_length;
            (Model::Alone(backend, Box::new(pipeline)), context_length)
        }
        Some(spread) => cluster::start(shared, spread, checkpoint, &stop)?,
    };
    let info = TierInfo {
        name: config.name.clone(),
        model: config.model_id.clone(),
        context_length: super::count(context_length),
        cost: config.cost,
        remote: false,
    };
    // The worker is the only one to set it, here.
    let _ = shared.loaded.set(Loaded { info, prompts, grammars: Grammars::default() });
    Ok(model)
}

/// The model on its device.
pub(crate) fn open(
    config: &LocalConfig,
    mut checkpoint: Checkpoint,
    stop: &dyn Fn() -> bool,
) -> Result<Box<dyn Backend>, EngineError> {
    match config.device {
        DeviceKind::Cpu => {
            let options = config.cpu_options(checkpoint.plan().sizes.context_length);
            memory::check_fit(&MemoryEstimate::of(checkpoint.plan(), &options), AvailableMemory::now())?;
            Ok(Box::new(CpuBackend::load(&mut checkpoint, &options, &mut |_| {}, stop)?))
        }
        DeviceKind::Cuda(ordinal) => open_cuda(config, ordinal, &mut checkpoint, stop),
    }
}

#[cfg(feature = "cuda")]
fn open_cuda(
    config: &LocalConfig,
    ordinal: usize,
    checkpoint: &mut Checkpoint,
    stop: &dyn Fn() -> bool,
) -> Result<Box<dyn Backend>, EngineError> {
    use crate::backend::{Progress, cuda};

    let options = config.cuda_options(ordinal, checkpoint.plan().sizes.context_length);
    let predicted = cuda::estimate(checkpoint.plan(), &options)?;
    let device = reprise_cuda::Device::open(ordinal)?;
    memory::check_fit(&predicted, Some(cuda::available(&device)?))?;
    tracing::info!(tier = %config.name, gpu = device.name(), memory = %predicted, "loading to the GPU");
    let mut told = 0;
    let mut progress = |Progress { done, all }: Progress| {
        let tenth = 10 * done / all.max(1);
        if tenth > told {
            told = tenth;
            tracing::info!(tier = %config.name, percent = 10 * tenth, "loading");
        }
    };
    let backend = cuda::CudaBackend::load_on(&device, checkpoint, &options, &mut progress, stop)?;
    Ok(Box::new(backend))
}

#[cfg(not(feature = "cuda"))]
fn open_cuda(
    config: &LocalConfig,
    _: usize,
    _: &mut Checkpoint,
    _: &dyn Fn() -> bool,
) -> Result<Box<dyn Backend>, EngineError> {
    let value = config.device.to_string();
    Err(EngineError::Unsupported {
        what: "device",
        value,
        supported: "cpu (this binary was built without the feature `cuda`)",
    })
}

pub(crate) fn pipeline(
    config: &LocalConfig,
    backend: &(impl Backend + ?Sized),
) -> Result<Pipeline, EngineError> {
    let wrong = |error: ConfigError| EngineError::Inconsistent(error.to_string());
    Pipeline::new(config.ticks(), backend.layout()).map_err(wrong)
}

/// Touches all weights, and measures first speeds: of a short prompt and of a few tokens, one sequence alone.
pub(super) fn warm_up(
    backend: &mut dyn Backend,
    config: &LocalConfig,
    meter: &Meter,
) -> Result<(), EngineError> {
    let context_length = backend.layout().context_length;
    let prompt = 32.min(context_length / 2);
    let steps = 4.min(context_length / 4);
    for warm in [false, true] {
        // A pipeline of its own, so that no block of these tokens is ever found.
        let mut pipeline = pipeline(config, backend)?;
        let new = NewSequence {
            tokens: vec![1; prompt.max(1)],
            max_new: steps,
            priority: Priority::Interactive,
            deadline: None,
            scope: 0,
            greedy: true,
        };
        let inconsistent = |error: &dyn std::fmt::Display| EngineError::Inconsistent(error.to_string());
        let id = pipeline.start(new).map_err(|error| inconsistent(&error))?;
        let mut out = Finished::default();
        for _ in 0..=steps {
            let begun = Instant::now();
            let (mut decode, mut prefill) = (0, 0);
            while out.ready().next().is_none() {
                let turn = pipeline.turn(backend, Moment::default(), &mut out);
                let turn = turn.map_err(|error| inconsistent(&error))?;
                decode += turn.decode_rows;
                prefill += turn.prefill_rows;
            }
            if warm {
                meter.measured_tick(decode, prefill, begun.elapsed().as_secs_f64());
            }
            out.clear();
            pipeline.push(id, 1);
        }
    }
    Ok(())
}
