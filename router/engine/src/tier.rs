use std::{
    sync::{Arc, atomic::Ordering::Relaxed},
    thread::JoinHandle,
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use reprise_tier::{
    DeviceLoad, GenerateRequest, Generation, Pressure, Tier, TierError, TierInfo, TierState, channel,
};

use crate::{
    LocalConfig,
    speed::Work,
    worker::{self, Job, Prompt, Shared},
};

/// Bytes per token of English text, about; for estimates only.
const BYTES_PER_TOKEN: usize = 4;
/// Tokens that a template puts around one turn, about.
const TOKENS_PER_TURN: usize = 5;
/// Events of a generation besides its deltas: started, the held rest, finished or an error.
const OTHER_EVENTS: usize = 8;

/// A model run in this process, on a thread of its own.
#[derive(Debug)]
pub struct LocalTier {
    /// Until the model file was read: its context length is the configured one, or 0.
    provisional: TierInfo,
    shared: Arc<Shared>,
    /// Taken by the first [`Self::shutdown`].
    worker: Mutex<Option<JoinHandle<()>>>,
}

impl LocalTier {
    /// Returns at once; the model loads on the tier's thread, and [`Tier::state`] tells how that goes.
    #[must_use]
    pub fn load(config: LocalConfig) -> Self {
        let provisional = TierInfo {
            name: config.name.clone(),
            model: config.model_id.clone(),
            context_length: config.context_length.unwrap_or(0),
            cost: config.cost,
            remote: false,
        };
        let shared = Arc::new(Shared::new(config));
        let name = format!("tier-{}", provisional.name);
        let spawned = std::thread::Builder::new().name(name).spawn({
            let shared = Arc::clone(&shared);
            move || worker::run(&shared)
        });
        let worker = match spawned {
            Ok(worker) => Some(worker),
            Err(error) => {
                *shared.state.write() =
                    TierState::Failed { reason: format!("cannot start a thread: {error}") };
                None
            }
        };
        Self { provisional, shared, worker: Mutex::new(worker) }
    }

    /// Ends what runs and what waits with [`TierError::ShuttingDown`], and waits for the thread. To drain, stop
    /// submitting and read the generations to their ends before. Blocks for at most one forward pass, or the
    /// reading of one layer.
    pub fn shutdown(&self) {
        self.shared.stopping.store(true, Relaxed);
        self.shared.queue.close(&TierError::ShuttingDown, &self.shared.meter);
        let worker = self.worker.lock().take();
        if let Some(worker) = worker
            && worker.join().is_err()
        {
            tracing::error!(tier = %self.provisional.name, "the worker panicked");
        }
    }

    fn estimate(&self, request: &GenerateRequest) -> Work {
        let turns = request.messages.iter().map(|message| message.content.len());
        let bytes: usize = turns.chain(request.text.as_ref().map(String::len)).sum();
        let prefill = bytes / BYTES_PER_TOKEN + TOKENS_PER_TURN * request.messages.len();
        let expected = self.shared.meter.expected_completion();
        Work {
            prefill: prefill as u64,
            decode: request.max_tokens.map_or(expected, |max| expected.min(max.into())),
        }
    }
}

impl Tier for LocalTier {
    fn info(&self) -> &TierInfo {
        self.shared.loaded.get().map_or(&self.provisional, |loaded| &loaded.info)
    }

    fn state(&self) -> TierState {
        self.shared.state.read().clone()
    }

    fn submit(&self, request: GenerateRequest) -> Result<Generation, TierError> {
        if self.shared.stopping.load(Relaxed) {
            return Err(TierError::ShuttingDown);
        }
        match &*self.shared.state.read() {
            TierState::Ready => {}
            TierState::Loading => return Err(TierError::NotReady { reason: "the model is loading".into() }),
            TierState::Failed { reason } => return Err(TierError::NotReady { reason: reason.clone() }),
        }
        let context = self.info().context_length;
        let most = request.max_tokens.map_or(context, |wanted| wanted.min(context));
        let (events, generation) = channel(most as usize + OTHER_EVENTS);
        let work = self.estimate(&request);
        let job = Job { request, events, submitted: Instant::now(), work, prompt: Prompt::Text };
        if self.shared.queue.push(job, &self.shared.meter)? {
            return Ok(generation);
        }
        let wait = self.pressure().queued_seconds.clamp(1.0, 600.0);
        Err(TierError::Overloaded { retry_after: Duration::from_secs_f64(wait) })
    }

    fn pressure(&self) -> Pressure {
        self.shared.meter.pressure()
    }

    fn devices(&self) -> Vec<DeviceLoad> {
        self.shared.devices()
    }

    /// While the model loads: an estimate from the bytes.
    fn block_tokens(&self, user: &str, assistant: &str) -> u32 {
        let estimate = (user.len() + assistant.len()) / BYTES_PER_TOKEN + 2 * TOKENS_PER_TURN;
        let counted = self.shared.loaded.get().map(|loaded| loaded.prompts.block_tokens(user, assistant));
        let tokens = match counted {
            Some(Ok(tokens)) => tokens,
            Some(Err(_)) | None => estimate,
        };
        u32::try_from(tokens).unwrap_or(u32::MAX)
    }
}

impl Drop for LocalTier {
    fn drop(&mut self) {
        self.shutdown();
    }
}
