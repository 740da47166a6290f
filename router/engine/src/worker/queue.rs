use std::{
    num::NonZeroUsize,
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::{Condvar, Mutex};
use reprise_scheduler::{Moment, Ticket, Waiting};
use reprise_tier::{EventSender, GenerateRequest, JsonForm, Message, Sampling, TierError, Tools};

use crate::{
    sampling::TokenMask,
    speed::{Meter, Work},
};

/// How often those who wait are looked at while nothing is computed.
const PATIENCE: Duration = Duration::from_millis(20);

/// A request that waits.
#[derive(Debug)]
pub(crate) struct Job {
    pub(crate) request: GenerateRequest,
    pub(crate) events: EventSender,
    pub(crate) submitted: Instant,
    /// Estimated; exact in `prefill` once prepared.
    pub(crate) work: Work,
    pub(crate) prompt: Prompt,
}

/// How far a request is on its way to tokens.
#[derive(Debug)]
pub(crate) enum Prompt {
    Text,
    /// With a preparing thread.
    Taken,
    Ready(Prepared),
}

/// A prompt that fits.
#[derive(Debug)]
pub(crate) struct Prepared {
    pub(crate) tokens: Vec<u32>,
    /// The most tokens to generate.
    pub(crate) limit: usize,
    /// The form of the answer, if it has one.
    pub(crate) mask: Option<Box<dyn TokenMask>>,
}

/// What it takes to prepare a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Tokens.
    Free,
    /// Tokens and a grammar.
    Formed,
}

impl Kind {
    pub(crate) const ALL: [Self; 2] = [Self::Free, Self::Formed];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Free => "prepare",
            Self::Formed => "grammar",
        }
    }

    fn of(request: &GenerateRequest) -> Self {
        if request.form.is_some() || request.tools.is_some() { Self::Formed } else { Self::Free }
    }
}

impl Job {
    /// Nobody waits for its grammar but itself.
    fn holds_up(&self) -> bool {
        matches!(self.prompt, Prompt::Ready(_)) || Kind::of(&self.request) == Kind::Free
    }
}

/// What a preparing thread needs of a request.
#[derive(Debug)]
pub(crate) struct Ask {
    pub(crate) ticket: Ticket,
    pub(crate) messages: Vec<Message>,
    pub(crate) text: Option<String>,
    pub(crate) sampling: Sampling,
    pub(crate) max_tokens: Option<u32>,
    pub(crate) form: Option<JsonForm>,
    pub(crate) tools: Option<Arc<Tools>>,
    pub(crate) scope: u64,
}

/// What the worker finds in the queue.
#[derive(Debug)]
pub(crate) enum Next {
    /// The first in line, prepared.
    Job(Box<Job>),
    /// Nobody, or one who is not prepared or does not fit yet.
    None,
    Closed,
}

/// The waiting requests of a tier, and the only place where requests wait: the handle adds them, the preparing threads turn
/// their text into tokens where they stand, the worker takes the first when it has room.
#[derive(Debug)]
pub(crate) struct Queue {
    state: Mutex<State>,
    /// For the preparing threads: there is text.
    text: Condvar,
    /// For an idle worker: a prompt is ready.
    ready: Condvar,
    /// Times are counted from here.
    epoch: Instant,
}

#[derive(Debug)]
struct State {
    waiting: Waiting<Job>,
    closed: Option<TierError>,
}

impl Queue {
    pub(crate) fn new(capacity: NonZeroUsize) -> Self {
        let state = State { waiting: Waiting::new(capacity.get()), closed: None };
        Self { state: Mutex::new(state), text: Condvar::new(), ready: Condvar::new(), epoch: Instant::now() }
    }

    pub(crate) fn now(&self) -> Moment {
        Moment(self.epoch.elapsed())
    }

    /// A deadline from before the tier began is at its beginning.
    pub(crate) fn moment(&self, at: Instant) -> Moment {
        Moment(at.saturating_duration_since(self.epoch))
    }

    /// Adds a job. False if as many wait already, once those were dropped that wait for nobody.
    pub(crate) fn push(&self, job: Job, meter: &Meter) -> Result<bool, TierError> {
        let mut state = self.state.lock();
        if let Some(error) = &state.closed {
            return Err(error.clone());
        }
        if state.waiting.is_full() {
            state.sweep(self.now());
        }
        let deadline = job.request.deadline.map(|deadline| self.moment(deadline));
        let fits = state.waiting.push(priority(&job), deadline, job).is_ok();
        state.report(meter);
        drop(state);
        // Each of them looks for its own kind.
        self.text.notify_all();
        Ok(fits)
    }

    /// Waits for text of this kind to prepare; `None` once closed.
    pub(crate) fn ask(&self, kind: Kind) -> Option<Ask> {
        let mut state = self.state.lock();
        loop {
            if state.closed.is_some() {
                return None;
            }
            let text = state.waiting.iter_mut().find(|entry| {
                matches!(entry.item.prompt, Prompt::Text) && Kind::of(&entry.item.request) == kind
            });
            if let Some(entry) = text {
                entry.item.prompt = Prompt::Taken;
                let request = &mut entry.item.request;
                return Some(Ask {
                    ticket: entry.ticket,
                    messages: std::mem::take(&mut request.messages),
                    text: request.text.take(),
                    sampling: request.sampling.clone(),
                    max_tokens: request.max_tokens,
                    form: request.form.clone(),
                    tools: request.tools.clone(),
                    scope: request.scope,
                });
            }
            self.text.wait(&mut state);
        }
    }

    /// The answer to an [`Ask`]. The request may have left meanwhile.
    pub(crate) fn prepared(&self, ticket: Ticket, outcome: Result<Prepared, TierError>, meter: &Meter) {
        let mut state = self.state.lock();
        match outcome {
            Ok(prepared) => {
                if let Some(job) = state.waiting.get_mut(ticket) {
                    job.work.prefill = prepared.tokens.len() as u64;
                    job.work.decode = job.work.decode.min(prepared.limit as u64);
                    job.prompt = Prompt::Ready(prepared);
                }
            }
            Err(error) => {
                if let Some(job) = state.waiting.remove(ticket) {
                    job.events.send(Err(error));
                }
            }
        }
        state.report(meter);
        drop(state);
        self.ready.notify_one();
    }

    /// The first in line if `fits` says so, without waiting, unless `idle`: then it waits for one to come. Those whose
    /// grammar is not ready are passed by.
    pub(crate) fn next(&self, idle: bool, fits: impl Fn(&Job, &Prepared) -> bool, meter: &Meter) -> Next {
        let mut state = self.state.lock();
        loop {
            if state.closed.is_some() {
                return Next::Closed;
            }
            state.sweep(self.now());
            state.report(meter);
            let first = state.waiting.iter().find(|entry| entry.item.holds_up());
            let fits = first.and_then(|entry| match &entry.item.prompt {
                Prompt::Ready(prepared) => Some((entry.ticket, fits(&entry.item, prepared))),
                Prompt::Text | Prompt::Taken => None,
            });
            if let Some((ticket, true)) = fits
                && let Some(job) = state.waiting.remove(ticket)
            {
                state.report(meter);
                return Next::Job(Box::new(job));
            }
            if !idle || fits.is_some() {
                return Next::None;
            }
            if state.waiting.is_empty() {
                self.ready.wait(&mut state);
            } else {
                self.ready.wait_for(&mut state, PATIENCE);
            }
        }
    }

    /// Ends all that wait with `error`, and refuses what comes with it.
    pub(crate) fn close(&self, error: &TierError, meter: &Meter) {
        let mut state = self.state.lock();
        state.closed.get_or_insert_with(|| error.clone());
        for job in state.waiting.drain() {
            job.events.send(Err(error.clone()));
        }
        state.report(meter);
        drop(state);
        self.text.notify_all();
        self.ready.notify_all();
    }
}

impl State {
    /// Ends those whose deadline passed and drops those whose reader has gone.
    fn sweep(&mut self, now: Moment) {
        for job in self.waiting.sweep(now, |job| job.events.is_cancelled()) {
            job.events.send(Err(TierError::DeadlineExceeded));
        }
    }

    fn report(&self, meter: &Meter) {
        let mut work = Work::default();
        for entry in self.waiting.iter() {
            work.prefill += entry.item.work.prefill;
            work.decode += entry.item.work.decode;
        }
        meter.set_waiting(self.waiting.len(), work);
    }
}

pub(crate) fn priority(job: &Job) -> reprise_scheduler::Priority {
    match job.request.priority {
        reprise_tier::Priority::Interactive => reprise_scheduler::Priority::Interactive,
        reprise_tier::Priority::Batch => reprise_scheduler::Priority::Batch,
    }
}

#[cfg(test)]
mod tests {
    use reprise_tier::{Event, Generation, Priority, channel};

    use super::*;

    struct Bench {
        queue: Queue,
        meter: Meter,
    }

    impl Bench {
        fn new(capacity: usize) -> Self {
            let capacity = NonZeroUsize::new(capacity).expect("not zero");
            Self { queue: Queue::new(capacity), meter: Meter::new(capacity.get(), 1) }
        }

        fn push(
            &self,
            id: &str,
            priority: Priority,
            deadline: Option<Instant>,
        ) -> (Result<bool, TierError>, Generation) {
            self.push_with(id, priority, deadline, None)
        }

        fn push_with(
            &self,
            id: &str,
            priority: Priority,
            deadline: Option<Instant>,
            form: Option<JsonForm>,
        ) -> (Result<bool, TierError>, Generation) {
            let (events, generation) = channel(4);
            let request = GenerateRequest {
                id: id.into(),
                messages: vec![Message::new(reprise_tier::Role::User, id)],
                priority,
                deadline,
                form,
                ..GenerateRequest::default()
            };
            let work = Work { prefill: 10, decode: 1 };
            let job = Job { request, events, submitted: Instant::now(), work, prompt: Prompt::Text };
            (self.queue.push(job, &self.meter), generation)
        }

        fn prepare(&self) -> String {
            self.prepare_kind(Kind::Free)
        }

        fn prepare_kind(&self, kind: Kind) -> String {
            let ask = self.queue.ask(kind).expect("open");
            let prepared = Prepared { tokens: vec![1; 3], limit: 5, mask: None };
            self.queue.prepared(ask.ticket, Ok(prepared), &self.meter);
            ask.messages[0].content.clone()
        }

        fn pop(&self) -> String {
            match self.queue.next(false, |_, _| true, &self.meter) {
                Next::Job(job) => job.request.id.to_string(),
                other => format!("{other:?}"),
            }
        }
    }

    fn first(mut generation: Generation) -> Option<Result<Event, TierError>> {
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("runtime");
        runtime.block_on(generation.next())
    }

    #[test]
    fn interactive_goes_before_batch_each_in_order() {
        let bench = Bench::new(8);
        let order = [
            ("b1", Priority::Batch),
            ("i1", Priority::Interactive),
            ("b2", Priority::Batch),
            ("i2", Priority::Interactive),
        ];
        let kept: Vec<_> = order.map(|(id, priority)| bench.push(id, priority, None)).into_iter().collect();
        assert_eq!(bench.meter.pressure().waiting, 4);
        assert_eq!(bench.pop(), "None", "not prepared");
        assert_eq!([(); 4].map(|()| bench.prepare()), ["i1", "i2", "b1", "b2"]);
        assert_eq!([(); 4].map(|()| bench.pop()), ["i1", "i2", "b1", "b2"]);
        assert_eq!(bench.meter.pressure().waiting, 0);
        drop(kept);
    }

    #[test]
    fn a_full_queue_refuses_until_a_reader_leaves() {
        let bench = Bench::new(2);
        let (_, first) = bench.push("1", Priority::Interactive, None);
        let (_, _second) = bench.push("2", Priority::Batch, None);
        assert!(matches!(bench.push("3", Priority::Interactive, None).0, Ok(false)));
        drop(first);
        let (fourth, _kept) = bench.push("4", Priority::Interactive, None);
        assert!(matches!(fourth, Ok(true)));
        assert_eq!([(); 2].map(|()| bench.prepare()), ["4", "2"]);
        assert_eq!([bench.pop(), bench.pop()], ["4", "2"]);
    }

    #[test]
    fn who_does_not_fit_holds_up_those_behind() {
        let bench = Bench::new(2);
        let (_, _first) = bench.push("1", Priority::Interactive, None);
        let (_, _second) = bench.push("2", Priority::Interactive, None);
        let _ = [(); 2].map(|()| bench.prepare());
        let second_only = |job: &Job, _: &Prepared| &*job.request.id == "2";
        assert!(matches!(bench.queue.next(true, second_only, &bench.meter), Next::None));
        assert_eq!([bench.pop(), bench.pop()], ["1", "2"]);
    }

    #[test]
    fn a_grammar_that_is_not_ready_holds_up_nobody() {
        let bench = Bench::new(3);
        let form = Some(JsonForm::Object);
        let (_, _formed) = bench.push_with("formed", Priority::Interactive, None, form);
        let (_, _free) = bench.push("free", Priority::Interactive, None);
        assert_eq!(
            (bench.prepare(), bench.pop(), bench.pop()),
            ("free".into(), "free".into(), "None".into())
        );
        let (_, _later) = bench.push("later", Priority::Interactive, None);
        assert_eq!((bench.prepare(), bench.prepare_kind(Kind::Formed)), ("later".into(), "formed".into()));
        assert_eq!([bench.pop(), bench.pop()], ["formed", "later"], "ready, it has kept its place");
    }

    #[test]
    fn a_deadline_is_kept_while_waiting() {
        let bench = Bench::new(2);
        let (_, late) = bench.push("late", Priority::Interactive, Some(Instant::now()));
        let (_, _kept) =
            bench.push("kept", Priority::Batch, Some(Instant::now() + Duration::from_secs(3600)));
        assert_eq!([(); 2].map(|()| bench.prepare()), ["late", "kept"]);
        assert_eq!(bench.pop(), "kept");
        assert_eq!(bench.meter.pressure().waiting, 0);
        assert!(matches!(first(late), Some(Err(TierError::DeadlineExceeded))));
    }

    #[test]
    fn what_cannot_be_prepared_leaves_with_its_error() {
        let bench = Bench::new(2);
        let (_, wrong) = bench.push("1", Priority::Interactive, None);
        let ask = bench.queue.ask(Kind::Free).expect("open");
        let error = TierError::InvalidRequest { param: "messages".into(), message: "no".into() };
        bench.queue.prepared(ask.ticket, Err(error), &bench.meter);
        assert!(matches!(first(wrong), Some(Err(TierError::InvalidRequest { .. }))));
        assert_eq!(bench.meter.pressure().waiting, 0);
    }

    #[test]
    fn closing_ends_and_refuses() {
        let bench = Bench::new(2);
        let (_, waiting) = bench.push("1", Priority::Interactive, None);
        bench.queue.close(&TierError::ShuttingDown, &bench.meter);
        assert!(matches!(first(waiting), Some(Err(TierError::ShuttingDown))));
        assert!(matches!(bench.queue.next(true, |_, _| true, &bench.meter), Next::Closed));
        assert!(Kind::ALL.into_iter().all(|kind| bench.queue.ask(kind).is_none()));
        assert!(matches!(bench.push("2", Priority::Batch, None).0, Err(TierError::ShuttingDown)));
    }
}
