use std::{sync::atomic::Ordering::Relaxed, time::Instant};

use reprise_scheduler::{Backend, ConfigError, Finished, Moment, NewSequence, Pipeline, Priority};
use reprise_tier::TierInfo;

use super::{Loaded, Shared};
use crate::{
    DeviceKind, EngineError, LocalConfig,
    backend::{CpuBackend, MemoryEstimate},
    gguf::Gguf,
    loader::Checkpoint,
    memory::{self, AvailableMemory},
    speed::Meter,
    text::PromptBuilder,
};

/// Reads the model file and makes everything ready that the worker needs.
pub(super) fn load(shared: &Shared) -> Result<(CpuBackend, Pipeline), EngineError> {
    let config = &shared.config;
    let gguf = Gguf::open(&config.gguf)?;
    let prompts = PromptBuilder::from_gguf(&gguf)?;
    let mut backend = open(config, gguf, &|| shared.stopping.load(Relaxed))?;
    let layout = backend.layout().clone();
    warm_up(&mut backend, config, &shared.meter)?;
    let pipeline = pipeline(config, &backend)?;
    let info = TierInfo {
        name: config.name.clone(),
        model: config.model_id.clone(),
        context_length: super::count(layout.context_length),
        cost: config.cost,
        remote: false,
    };
    // The worker is the only one to set it, here.
    let _ = shared.loaded.set(Loaded { info, prompts });
    Ok((backend, pipeline))
}

/// The model on its device.
pub(crate) fn open(
    config: &LocalConfig,
    gguf: Gguf,
    stop: &dyn Fn() -> bool,
) -> Result<CpuBackend, EngineError> {
    if config.device != DeviceKind::Cpu {
        let value = config.device.to_string();
        return Err(EngineError::Unsupported { what: "device", value, supported: "cpu" });
    }
    let mut checkpoint = Checkpoint::from_gguf(gguf)?;
    let options = config.cpu_options(checkpoint.plan().sizes.context_length);
    memory::check_fit(&MemoryEstimate::of(checkpoint.plan(), &options), AvailableMemory::now())?;
    CpuBackend::load(&mut checkpoint, &options, &mut |_| {}, stop)
}

pub(crate) fn pipeline(config: &LocalConfig, backend: &impl Backend) -> Result<Pipeline, EngineError> {
    let wrong = |error: ConfigError| EngineError::Inconsistent(error.to_string());
    Pipeline::new(config.ticks(), backend.layout()).map_err(wrong)
}

/// Touches all weights, and measures first speeds: of a short prompt and of a few tokens, one sequence alone.
fn warm_up(backend: &mut CpuBackend, config: &LocalConfig, meter: &Meter) -> Result<(), EngineError> {
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
        };
        let inconsistent = |error: &dyn std::fmt::Display| EngineError::Inconsistent(error.to_string());
        let id = pipeline.start(new).map_err(|error| inconsistent(&error))?;
        let mut out = Finished::default();
        for _ in 0..=steps {
            let begun = Instant::now();
            let (mut decode, mut prefill) = (0, 0);
            while out.logits_of.is_empty() {
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
