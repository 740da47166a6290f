//! One OS thread per tier loads the model and then computes all of its requests in one batch; another beside it turns
//! messages into tokens.

mod batch;
mod cluster;
mod load;
mod prepare;
mod queue;
mod running;
mod spread;

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{OnceLock, atomic::AtomicBool},
    time::Instant,
};

use parking_lot::RwLock;
use reprise_expert_parallel::{Cluster, Watch};
use reprise_scheduler::{Backend, Pipeline};
use reprise_tier::{DeviceLoad, TierError, TierInfo, TierState};

use crate::{EngineError, LocalConfig, grammar::Grammars, speed::Meter, text::PromptBuilder};

use load::Model;
pub(crate) use load::{open, pipeline};
pub(crate) use queue::{Job, Kind, Prompt, Queue};
use spread::{Requests, Spread};

/// What the tier's handle and its threads share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) config: LocalConfig,
    /// Written once by the worker, when loading is done.
    pub(crate) loaded: OnceLock<Loaded>,
    /// Written by the worker.
    pub(crate) state: RwLock<TierState>,
    pub(crate) queue: Queue,
    pub(crate) meter: Meter,
    /// Of a tier that is spread over devices. Written once by the worker.
    pub(crate) watch: OnceLock<Watch>,
    /// Set once by the handle: end what runs.
    pub(crate) stopping: AtomicBool,
}

impl Shared {
    pub(crate) fn new(config: LocalConfig) -> Self {
        Self {
            queue: Queue::new(config.queue_capacity),
            meter: Meter::new(config.queue_capacity.get(), config.max_sequences.get()),
            config,
            watch: OnceLock::new(),
            loaded: OnceLock::new(),
            state: RwLock::new(TierState::Loading),
            stopping: AtomicBool::new(false),
        }
    }
}

impl Shared {
    /// Of each device that the tier's model is spread over.
    pub(crate) fn devices(&self) -> Vec<DeviceLoad> {
        let views = self.watch.get().map_or_else(Vec::new, Watch::views);
        views.iter().map(spread::load).collect()
    }
}

/// What is known once the model file was read.
#[derive(Debug)]
pub(crate) struct Loaded {
    pub(crate) info: TierInfo,
    pub(crate) prompts: PromptBuilder,
    pub(crate) grammars: Grammars,
}

/// The worker's whole life.
pub(crate) fn run(shared: &Shared) {
    let begun = Instant::now();
    let prepared = catch_unwind(AssertUnwindSafe(|| load::load(shared))).unwrap_or_else(|panic| {
        Err(EngineError::Inconsistent(format!("loading panicked: {}", text_of(&*panic))))
    });
    let model = match prepared {
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
        max_sequences = shared.config.max_sequences,
        "model loaded"
    );
    match model {
        Model::Alone(backend, pipeline) => serve(shared, loaded, backend, *pipeline),
        Model::Spread { cluster, requests, places } => {
            serve_spread(shared, loaded, *cluster, requests, places);
        }
    }
}

/// Answers requests with a model on one device until the queue is closed.
fn serve<B: Backend>(shared: &Shared, loaded: &Loaded, backend: B, pipeline: Pipeline) {
    answer(shared, loaded, || batch::Batch::new(shared, loaded, backend, pipeline).run());
}

/// The same with a model on several.
fn serve_spread<P: Send + 'static>(
    shared: &Shared,
    loaded: &Loaded,
    cluster: Cluster<P>,
    requests: Requests,
    places: usize,
) {
    answer(shared, loaded, || Spread::new(shared, loaded, cluster, requests, places).run());
}

/// The error of `compute` is why the tier has to be given up.
fn answer(shared: &Shared, loaded: &Loaded, compute: impl FnOnce() -> Result<(), String>) {
    std::thread::scope(|scope| {
        let preparing = Kind::ALL.into_iter().try_for_each(|kind| {
            let name = format!("{}-{}", kind.name(), shared.config.name);
            let thread = std::thread::Builder::new().name(name);
            thread.spawn_scoped(scope, move || prepare::run(shared, loaded, kind)).map(drop)
        });
        let outcome = match preparing {
            Ok(()) => catch_unwind(AssertUnwindSafe(compute))
                .unwrap_or_else(|panic| Err(format!("the worker panicked: {}", text_of(&*panic)))),
            Err(error) => Err(format!("cannot start a thread: {error}")),
        };
        if let Err(reason) = outcome {
            give_up(shared, reason);
        }
    });
}

fn give_up(shared: &Shared, reason: String) {
    *shared.state.write() = TierState::Failed { reason: reason.clone() };
    shared.queue.close(&TierError::NotReady { reason }, &shared.meter);
}

fn count(tokens: usize) -> u32 {
    u32::try_from(tokens).unwrap_or(u32::MAX)
}

fn text_of(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "no message".to_owned())
}

#[cfg(test)]
mod spread_tests;
#[cfg(test)]
mod tests;
