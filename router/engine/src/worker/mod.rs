//! One OS thread per tier: it loads the model, then takes one request after the other from the queue.

mod generate;
mod queue;

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        OnceLock,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Instant,
};

use parking_lot::RwLock;
use reprise_tier::{TierError, TierInfo, TierState};

use crate::{
    EngineError, LocalConfig,
    gguf::Gguf,
    model::{self, Model},
    speed::{Meter, Work},
    text::PromptBuilder,
};

pub(crate) use generate::PREFILL_CHUNK;
pub(crate) use queue::{Job, Queue};

/// After as many generations in a row that panicked, the tier is given up: candle's thread pool does not work
/// again once a panic poisoned it.
const PANICS_IN_A_ROW: u32 = 3;

/// What the tier's handle and its worker share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) config: LocalConfig,
    /// Written once by the worker, when loading is done.
    pub(crate) loaded: OnceLock<Loaded>,
    /// Written by the worker.
    pub(crate) state: RwLock<TierState>,
    pub(crate) queue: Queue,
    pub(crate) meter: Meter,
    /// Set once by the handle: end what runs.
    pub(crate) stopping: AtomicBool,
}

/// What is known once the model file was read.
#[derive(Debug)]
pub(crate) struct Loaded {
    pub(crate) info: TierInfo,
    pub(crate) prompts: PromptBuilder,
}

/// The worker's whole life.
pub(crate) fn run(shared: &Shared) {
    let begun = Instant::now();
    let prepared = catch_unwind(AssertUnwindSafe(|| prepare(shared))).unwrap_or_else(|panic| {
        Err(EngineError::Inconsistent(format!("loading panicked: {}", text_of(&*panic))))
    });
    let (model, threads) = match prepared {
        Ok(prepared) => prepared,
        Err(error) => {
            tracing::error!(tier = %shared.config.name, %error, "model did not load");
            return give_up(shared, error.to_string());
        }
    };
    let Some(loaded) = shared.loaded.get() else { return give_up(shared, "nothing was loaded".into()) };
    *shared.state.write() = TierState::Ready;
    tracing::info!(
        tier = %shared.config.name,
        seconds = begun.elapsed().as_secs_f64(),
        context_length = loaded.info.context_length,
        "model loaded"
    );
    serve(&*model, threads.as_ref(), shared, loaded);
}

/// Takes jobs until the queue is closed.
fn serve(model: &dyn Model, threads: Option<&rayon::ThreadPool>, shared: &Shared, loaded: &Loaded) {
    let mut panics = 0;
    while let Some(job) = shared.queue.pop(&shared.meter) {
        let work = || generate::generate(model, shared, loaded, &job);
        let outcome = catch_unwind(AssertUnwindSafe(|| match threads {
            Some(pool) => pool.install(work),
            None => work(),
        }));
        shared.meter.set_running(0, Work::default(), 0);
        match outcome {
            Ok(()) => panics = 0,
            Err(panic) => {
                panics += 1;
                let message = format!("a generation panicked: {}", text_of(&*panic));
                tracing::error!(tier = %shared.config.name, request = %job.request.id, %message);
                job.events.send(Err(TierError::Internal { message: message.clone() }));
                if panics == PANICS_IN_A_ROW {
                    return give_up(shared, message);
                }
            }
        }
    }
}

fn give_up(shared: &Shared, reason: String) {
    *shared.state.write() = TierState::Failed { reason: reason.clone() };
    shared.queue.close(&TierError::NotReady { reason }, &shared.meter);
}

type Prepared = (Box<dyn Model>, Option<rayon::ThreadPool>);

fn prepare(shared: &Shared) -> Result<Prepared, EngineError> {
    let config = &shared.config;
    let device = config.device.open()?;
    let mut gguf = Gguf::open(&config.gguf)?;
    let context_length = model::trained_context(&gguf)?.min(config.context_length.unwrap_or(u32::MAX));
    let prompts = PromptBuilder::from_gguf(&gguf)?;
    let threads = match config.threads {
        Some(threads) => {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads.get()).build();
            Some(pool.map_err(|error| EngineError::Thread(error.to_string()))?)
        }
        None => None,
    };
    let model = model::load(&mut gguf, context_length as usize, &device, &|| shared.stopping.load(Relaxed))?;
    warm_up(&*model, &shared.meter, context_length as usize)?;
    shared.meter.set_kv_capacity(context_length as usize);
    let info = TierInfo {
        name: config.name.clone(),
        model: config.model_id.clone(),
        context_length,
        cost: config.cost,
        remote: false,
    };
    // The worker is the only one to set it, here.
    let _ = shared.loaded.set(Loaded { info, prompts });
    Ok((model, threads))
}

/// Packs the weights for the CPU's kernels, which candle does at their first use, and measures first speeds.
fn warm_up(model: &dyn Model, meter: &Meter, context_length: usize) -> Result<(), EngineError> {
    let prompt = vec![1; 32.min(context_length / 2)];
    let steps = 4.min(context_length / 4);
    model.new_sequence().forward(&prompt)?;
    let mut sequence = model.new_sequence();
    let begun = Instant::now();
    sequence.forward(&prompt)?;
    meter.measured_prefill(prompt.len(), begun.elapsed().as_secs_f64());
    let begun = Instant::now();
    for _ in 0..steps {
        sequence.forward(&[1])?;
    }
    meter.measured_decode(steps, begun.elapsed().as_secs_f64());
    Ok(())
}

fn text_of(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "no message".to_owned())
}

#[cfg(test)]
mod tests;
