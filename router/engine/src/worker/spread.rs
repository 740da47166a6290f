//! A tier whose model is spread over devices: its requests go to a [`Cluster`], and what comes back is told to those who wait.
//!
//! Tokens are drawn on the thread of the device that computed their logits, so that nobody waits for this thread.

use std::{
    collections::HashMap,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, atomic::Ordering::Relaxed},
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use reprise_expert_parallel::{Cluster, DeviceView, Event, ExpertView, RequestId, worker::Choose};
use reprise_tier::{DeviceCalls, DeviceLoad, ExpertLoad, FinishReason, TierError};

use super::{
    Job, Loaded, Shared,
    queue::{Next, Prepared, Prompt, priority},
    running::{Running, Then},
    text_of,
};
use crate::speed::Work;

/// Between two looks for requests that left or came.
const LOOK: Duration = Duration::from_millis(2);
/// Speeds are measured over so long.
const WINDOW: Duration = Duration::from_millis(500);

/// The requests that are computed. A device's thread takes the lock for as long as drawing a token takes.
pub(super) type Requests = Arc<Mutex<HashMap<RequestId, Running>>>;

/// Draws a request's next token, on a device's thread.
pub(super) fn choose(requests: &Requests) -> Choose {
    let requests = Arc::clone(requests);
    Box::new(move |id, logits| {
        let mut requests = requests.lock();
        let running = requests.get_mut(&id)?;
        match catch_unwind(AssertUnwindSafe(|| running.logits(logits))) {
            Ok(Then::Token(token)) => Some(token),
            Ok(Then::Over(_)) => None,
            Err(panic) => {
                // What it left behind belongs to this request alone.
                let message = format!("a generation panicked: {}", text_of(&*panic));
                tracing::error!(%message);
                running.fail(TierError::Internal { message });
                None
            }
        }
    })
}

pub(super) fn load(view: &DeviceView) -> DeviceLoad {
    let calls = |(kind, (calls, entries)): (&&'static str, &(u64, u64))| DeviceCalls {
        kind,
        calls: *calls,
        entries: *entries,
    };
    DeviceLoad {
        busy_seconds: view.busy_seconds,
        calls: view.calls.iter().map(calls).collect(),
        expert_parts: view.expert_parts(),
        experts: view.experts.iter().map(expert).collect(),
        queue_depth: view.queue_depth.iter().map(|(name, depth)| (name.clone(), *depth)).collect(),
        mean_queue_depth: view.mean_queue_depth,
        oldest_seconds: view.oldest_seconds,
        kv_used: view.kv_blocks_held as f64 / view.kv_blocks.max(1) as f64,
        kv_blocks: view.kv_blocks,
    }
}

fn expert((at, load): (&(usize, u16), &ExpertView)) -> ExpertLoad {
    ExpertLoad {
        sub_layer: u16::try_from(at.0).unwrap_or(u16::MAX),
        expert: at.1,
        waiting: load.waiting,
        parts: load.parts,
    }
}

/// The thread's loop.
pub(super) struct Spread<'a, P: Send + 'static> {
    shared: &'a Shared,
    loaded: &'a Loaded,
    cluster: Cluster<P>,
    requests: Requests,
    /// The most that are computed at once, on all devices.
    places: usize,
    /// Tokens since.
    window: (Instant, usize),
    /// When the devices were looked at; the share of their KV in use then, and the mean depth of their queues.
    seen: (Option<Instant>, f64, f64),
}

impl<'a, P: Send + 'static> Spread<'a, P> {
    pub(super) fn new(
        shared: &'a Shared,
        loaded: &'a Loaded,
        cluster: Cluster<P>,
        requests: Requests,
        places: usize,
    ) -> Self {
        // There is one cluster in a tier's life.
        let _ = shared.watch.set(cluster.watch());
        let (window, seen) = ((Instant::now(), 0), (None, 0.0, 0.0));
        Self { shared, loaded, cluster, requests, places, window, seen }
    }

    /// Computes until the queue is closed. The error is why the tier has to be given up.
    pub(super) fn run(mut self) -> Result<(), String> {
        loop {
            self.leave();
            self.report();
            if self.shared.stopping.load(Relaxed) || !self.fill() {
                self.end_all(&TierError::ShuttingDown);
                return Ok(());
            }
            for event in self.cluster.poll(LOOK) {
                self.happened(event);
            }
            if let Some(lost) = self.cluster.lost().last() {
                // Groups of experts have one device each: without it nothing can be computed.
                let message = format!("device {} is lost: {}", lost.device.0, lost.why);
                self.end_all(&TierError::Internal { message: message.clone() });
                return Err(message);
            }
        }
    }

    fn fill(&mut self) -> bool {
        loop {
            let running = self.requests.lock().len();
            let fits = |_: &Job, prepared: &Prepared| prepared.limit == 0 || running < self.places;
            match self.shared.queue.next(running == 0, fits, &self.shared.meter) {
                Next::Job(job) => self.start(*job),
                Next::None => return true,
                Next::Closed => return false,
            }
        }
    }

    fn start(&mut self, mut job: Job) {
        let Prompt::Ready(mut prepared) = std::mem::replace(&mut job.prompt, Prompt::Taken) else { return };
        let (priority, scope) = (priority(&job), job.request.scope);
        let mut running = Running::new(job, &mut prepared, self.loaded);
        if prepared.limit == 0 {
            running.begin();
            running.finish(FinishReason::Length);
            return;
        }
        // The first token must find its request.
        let mut requests = self.requests.lock();
        match self.cluster.submit(prepared.tokens, prepared.limit, priority, scope) {
            Ok(id) => {
                running.begin();
                requests.insert(id, running);
            }
            Err(error) => running.fail(TierError::Internal { message: error.to_string() }),
        }
    }

    fn happened(&mut self, event: Event) {
        match event {
            Event::Token { request, last, .. } => {
                self.window.1 += 1;
                if last && let Some(running) = self.requests.lock().remove(&request) {
                    self.shared.meter.measured_completion(running.generated());
                }
            }
            Event::Failed { request, error } => {
                if let Some(running) = self.requests.lock().remove(&request) {
                    running.fail(TierError::Internal { message: error.to_string() });
                }
            }
        }
    }

    /// Ends those whose deadline passed and those whose reader has gone.
    fn leave(&mut self) {
        let now = Instant::now();
        let mut requests = self.requests.lock();
        let late = |running: &Running| running.job.request.deadline.is_some_and(|deadline| now >= deadline);
        let leaving =
            requests.iter().filter(|(_, running)| running.job.events.is_cancelled() || late(running));
        for id in leaving.map(|(id, _)| *id).collect::<Vec<_>>() {
            self.cluster.cancel(id);
            if let Some(running) = requests.remove(&id).filter(late) {
                running.fail(TierError::DeadlineExceeded);
            }
        }
    }

    fn end_all(&mut self, error: &TierError) {
        for (id, running) in self.requests.lock().drain() {
            self.cluster.cancel(id);
            running.fail(error.clone());
        }
        self.report();
    }

    /// Tells the meter what there is to do.
    fn report(&mut self) {
        let shared = self.shared;
        let meter = &shared.meter;
        let expected = meter.expected_completion();
        let (mut work, mut count) = (Work::default(), 0);
        for running in self.requests.lock().values() {
            count += 1;
            let generated = running.generated() as u64;
            if generated == 0 {
                work.prefill += running.prompt_tokens() as u64;
            }
            work.decode += expected.saturating_sub(generated).clamp(1, running.left().max(1) as u64);
        }
        let (begun, tokens) = self.window;
        let seconds = begun.elapsed().as_secs_f64();
        if count == 0 || seconds > WINDOW.as_secs_f64() {
            if count > 0 && tokens >= count {
                // As many ticks as each got tokens.
                meter.measured_tick(count, 0, seconds * count as f64 / tokens as f64);
            }
            self.window = (Instant::now(), 0);
        }
        if count == 0 {
            self.seen = (None, 0.0, 0.0);
        } else if self.seen.0.is_none_or(|at| at.elapsed() >= WINDOW / 5) {
            let devices = shared.devices();
            let mean = |of: fn(&DeviceLoad) -> f64| {
                devices.iter().map(of).sum::<f64>() / devices.len().max(1) as f64
            };
            meter.set_kv_blocks(devices.iter().map(|one| one.kv_blocks).sum());
            self.seen = (Some(Instant::now()), mean(|one| one.kv_used), mean(|one| one.mean_queue_depth));
        }
        let (_, kv_used, depth) = self.seen;
        meter.set_running(count, work, kv_used, depth);
    }
}
