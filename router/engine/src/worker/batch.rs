use std::{
    collections::HashMap,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::atomic::Ordering::Relaxed,
    time::Instant,
};

use reprise_scheduler::{Backend, Finished, NewSequence, Pipeline, SequenceId, Turn};
use reprise_tier::{FinishReason, TierError};

use super::{
    Job, Loaded, Shared,
    queue::{Next, Prepared, Prompt, priority},
    running::{Running, Then},
    text_of,
};
use crate::speed::Work;

/// After as many panics in a row the tier is given up: what a panic leaves behind in a device or a pool of threads may be
/// broken for good.
const PANICS_IN_A_ROW: u32 = 3;

/// Weight of the newest look at the micro-queues, of which a tick has some dozens.
const DEPTH_ALPHA: f64 = 0.02;

/// The computing thread's loop: all requests of a tier in one batch.
pub(crate) struct Batch<'a, B> {
    shared: &'a Shared,
    loaded: &'a Loaded,
    backend: B,
    pipeline: Pipeline,
    running: HashMap<SequenceId, Running>,
    out: Finished,
    tick: Option<Tick>,
    /// Moving average of the micro-queues' mean depth, in rows.
    depth: f64,
    panics: u32,
}

/// A tick whose rows are in flight.
#[derive(Debug, Clone, Copy)]
struct Tick {
    begun: Instant,
    turn: Turn,
}

impl<'a, B: Backend> Batch<'a, B> {
    pub(crate) fn new(shared: &'a Shared, loaded: &'a Loaded, backend: B, pipeline: Pipeline) -> Self {
        let (running, out) = (HashMap::new(), Finished::default());
        Self { shared, loaded, backend, pipeline, running, out, tick: None, depth: 0.0, panics: 0 }
    }

    /// Computes until the queue is closed. The error is why the tier has to be given up.
    pub(crate) fn run(mut self) -> Result<(), String> {
        loop {
            // Between ticks: a tick is one pass of the model, and nobody can come or go faster than that.
            if self.pipeline.executor().free_rows() > 0 {
                self.leave();
                // Before it may wait for requests for long.
                self.report();
                if self.shared.stopping.load(Relaxed) || !self.fill() {
                    self.end_all(&TierError::ShuttingDown);
                    return Ok(());
                }
            }
            match catch_unwind(AssertUnwindSafe(|| self.turn())) {
                Ok(()) => {}
                Err(panic) => self.panicked(&text_of(&*panic))?,
            }
        }
    }

    /// Starts who waits, as long as there is room. With nothing to compute it waits. False once the queue is closed.
    fn fill(&mut self) -> bool {
        loop {
            let core = self.pipeline.core();
            let fits = |job: &Job, prepared: &Prepared| {
                prepared.limit == 0
                    || core.check(prepared.tokens.len(), prepared.limit).is_err()
                    || core.has_room(priority(job), job.request.scope, &prepared.tokens)
            };
            match self.shared.queue.next(core.is_empty(), fits, &self.shared.meter) {
                Next::Job(job) => self.start(*job),
                Next::None => return true,
                Next::Closed => return false,
            }
        }
    }

    fn start(&mut self, mut job: Job) {
        let Prompt::Ready(mut prepared) = std::mem::replace(&mut job.prompt, Prompt::Taken) else { return };
        let (priority, scope) = (priority(&job), job.request.scope);
        let deadline = job.request.deadline.map(|deadline| self.shared.queue.moment(deadline));
        let mut running = Running::new(job, &mut prepared, self.loaded);
        let greedy = running.is_greedy();
        let (tokens, max_new) = (prepared.tokens, prepared.limit);
        if max_new == 0 {
            running.begin();
            running.finish(FinishReason::Length);
            return;
        }
        match self.pipeline.start(NewSequence { tokens, max_new, priority, deadline, scope, greedy }) {
            Ok(id) => {
                self.running.insert(id, running);
                // Whoever reads the event finds it counted.
                self.report();
                if let Some(running) = self.running.get(&id) {
                    running.begin();
                }
            }
            // The preparing thread has seen that it fits the context, and KV holds one: this is a mistake of ours.
            Err(error) => running.fail(TierError::Internal { message: error.to_string() }),
        }
    }

    /// Ends those whose deadline passed and those whose reader has gone.
    fn leave(&mut self) {
        let late: Vec<_> = self.pipeline.core().expired(self.shared.queue.now()).collect();
        for id in late {
            self.end(id, Some(TierError::DeadlineExceeded));
        }
        let gone = self.running.iter().filter(|(_, running)| running.job.events.is_cancelled());
        for id in gone.map(|(id, _)| *id).collect::<Vec<_>>() {
            self.end(id, None);
        }
    }

    fn end(&mut self, id: SequenceId, error: Option<TierError>) {
        self.pipeline.end(id);
        if let Some(running) = self.running.remove(&id)
            && let Some(error) = error
        {
            running.fail(error);
        }
    }

    fn end_all(&mut self, error: &TierError) {
        for id in self.pipeline.core().ids().collect::<Vec<_>>() {
            self.end(id, Some(error.clone()));
        }
        self.report();
    }

    /// Computes one micro-queue, and gives their logits to those that have come to the end of the model.
    fn turn(&mut self) {
        let begun = Instant::now();
        match self.pipeline.turn(&mut self.backend, self.shared.queue.now(), &mut self.out) {
            Ok(turn) => {
                if turn.decode_rows + turn.prefill_rows > 0 {
                    self.tick = Some(Tick { begun, turn });
                }
            }
            Err(broken) => {
                let message = broken.error.to_string();
                tracing::error!(tier = %self.shared.config.name, %message, "the backend failed");
                self.failed(&broken.ended, &message);
                return;
            }
        }
        if self.pipeline.in_flight() > 0 {
            self.depth += DEPTH_ALPHA * (self.pipeline.mean_depth() - self.depth);
        }
        let mut out = std::mem::take(&mut self.out);
        if out.ready().next().is_some() {
            self.report();
        }
        for (id, logits) in out.each_mut() {
            self.next_token(id, |running| running.logits(logits));
        }
        for (id, token) in &out.chosen {
            self.next_token(*id, |running| running.greedy(*token));
        }
        self.out = out;
        // Sampling belongs to a tick's time. Ticks that overlap are not measured: whose time would it be?
        if self.pipeline.in_flight() == 0
            && let Some(Tick { begun, turn }) = self.tick.take()
        {
            let seconds = begun.elapsed().as_secs_f64();
            self.shared.meter.measured_tick(turn.decode_rows, turn.prefill_rows, seconds);
        }
    }

    fn next_token(&mut self, id: SequenceId, choose: impl FnOnce(&mut Running) -> Then) {
        self.panics = 0;
        let Some(running) = self.running.get_mut(&id) else {
            self.pipeline.end(id);
            return;
        };
        if running.generated() == 0 {
            running.found(self.pipeline.core().found(id));
        }
        match choose(running) {
            Then::Token(token) => self.pipeline.push(id, token),
            Then::Over(generated) => {
                self.shared.meter.measured_completion(generated);
                self.end(id, None);
            }
        }
    }

    fn panicked(&mut self, text: &str) -> Result<(), String> {
        self.panics += 1;
        let message = format!("a generation panicked: {text}");
        tracing::error!(tier = %self.shared.config.name, %message);
        let mut ended = self.pipeline.fail();
        if ended.is_empty() {
            // Not the backend, then: nobody knows whose fault it was.
            ended = self.pipeline.core().ids().collect();
        }
        self.failed(&ended, &message);
        if self.panics < PANICS_IN_A_ROW {
            return Ok(());
        }
        self.end_all(&TierError::NotReady { reason: message.clone() });
        Err(message)
    }

    fn failed(&mut self, ended: &[SequenceId], message: &str) {
        self.tick = None;
        for id in ended {
            self.end(*id, Some(TierError::Internal { message: message.to_owned() }));
        }
    }

    /// Tells the meter what there is to do.
    fn report(&self) {
        let (core, meter) = (self.pipeline.core(), &self.shared.meter);
        let expected = meter.expected_completion();
        let mut work = Work::default();
        for (id, running) in &self.running {
            // The last uncomputed token of one that generates counts as decoded.
            work.prefill += core.uncomputed(*id).saturating_sub(1) as u64;
            let generated = running.generated() as u64;
            work.decode += expected.saturating_sub(generated).clamp(1, running.left() as u64);
        }
        let kv = core.kv();
        let used = kv.held() as f64 / kv.len().max(1) as f64;
        let depth = if self.running.is_empty() { 0.0 } else { self.depth };
        meter.set_kv_blocks(kv.len());
        meter.set_running(self.running.len(), work, used, depth);
    }
}
