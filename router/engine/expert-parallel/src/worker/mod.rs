//! One device's thread: takes in what the others send, computes the queue that its schedule chooses, sends on what comes out.
//!
//! Absences: it knows no other device's state, waits for none, and has no way to the outside but its transport and its events.

mod pulse;
mod sequences;

use std::{
    any::Any,
    cmp::Ordering,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, mpsc::SyncSender},
    time::{Duration, Instant},
};

use reprise_scheduler::{
    BackendError, ConfigError, CoreConfig, DeviceId, Exchange, Executor, Finished, Leg, ModelLayout, Moment,
    Parcel, Pipeline, Placement, ScheduleKind, schedule::StageCosts,
};

pub use pulse::{Pulse, State};

use crate::{
    cluster::{Command, Report, RequestId},
    profile::{Link, PARCEL, Reuse, stage_name},
    record::{Record, Span},
    reuse::Recent,
    transport::{Closed, Message, Transport},
    view::DeviceView,
};
use sequences::Sequences;

/// An idle worker looks up so often, to show that it lives.
const IDLE: Duration = Duration::from_millis(5);
/// A worker tells so often what it does.
const SHOW: Duration = Duration::from_millis(100);

/// Chooses the next token from a sequence's logits; none: it is over.
pub type Choose = Box<dyn FnMut(RequestId, &mut [f32]) -> Option<u32> + Send>;

/// The first largest.
#[must_use]
pub fn greedy() -> Choose {
    Box::new(|_, logits| {
        let mut best = None;
        for (id, logit) in logits.iter().enumerate() {
            if best.is_none_or(|(_, most)| *logit > most) {
                best = Some((id, *logit));
            }
        }
        best.and_then(|(id, _)| u32::try_from(id).ok())
    })
}

/// What a worker is made of, besides its device and its transport.
pub(crate) struct Setup {
    pub(crate) me: DeviceId,
    /// Of the whole model; `rows` of all devices with attention together.
    pub(crate) layout: ModelLayout,
    pub(crate) config: CoreConfig,
    pub(crate) schedule: ScheduleKind,
    pub(crate) costs: StageCosts,
    pub(crate) placement: Arc<Placement>,
    pub(crate) choose: Choose,
    pub(crate) pulse: Arc<Pulse>,
    pub(crate) events: SyncSender<Report>,
    pub(crate) begun: Instant,
    pub(crate) greedy: bool,
    pub(crate) compare: Option<Compare>,
    pub(crate) keep_spans: bool,
}

/// What a device's calls and parcels are compared with, beside its costs.
#[derive(Debug, Clone)]
pub struct Compare {
    link: Link,
    recent: Recent,
}

impl Compare {
    #[must_use]
    pub fn new(link: Link, reuse: &[Reuse]) -> Self {
        Self { link, recent: Recent::new(reuse) }
    }
}

pub(crate) struct Worker<D: Exchange, T> {
    setup: Setup,
    device: D,
    transport: T,
    pipeline: Pipeline,
    sequences: Sequences,
    record: Record,
    /// Its calls are compared, if there is something to compare them with.
    comparing: bool,
    epoch: u64,
    /// When it last told what it does.
    shown: Moment,
    /// From devices that begin anew before this one is told to.
    early: Vec<Message<D::Payload>>,
    outbox: Vec<Parcel>,
    out: Finished,
}

/// Why a worker's loop ends.
enum End {
    Stopped,
    Failed(BackendError),
}

impl From<BackendError> for End {
    fn from(error: BackendError) -> Self {
        Self::Failed(error)
    }
}

impl From<Closed> for End {
    fn from(_: Closed) -> Self {
        Self::Stopped
    }
}

impl<D: Exchange, T: Transport<D::Payload>> Worker<D, T> {
    pub(crate) fn new(setup: Setup, device: D, transport: T) -> Result<Self, ConfigError> {
        let lanes = lanes(&setup, &setup.placement);
        let pipeline = Pipeline::with_lanes(setup.config, &setup.layout, lanes, setup.schedule.mode().pace)?;
        let record = Record::new(Moment(setup.begun.elapsed()), setup.keep_spans);
        let (outbox, out) = (Vec::new(), Finished::default());
        let sequences = Sequences::default();
        let early = Vec::new();
        Ok(Self {
            setup,
            device,
            transport,
            pipeline,
            sequences,
            record,
            comparing: false,
            epoch: 0,
            shown: Moment::default(),
            early,
            outbox,
            out,
        })
    }

    /// The worker's whole life. A panic of the device ends this worker only; the cluster sees it in the pulse.
    pub(crate) fn run(mut self) -> Record {
        let outcome = catch_unwind(AssertUnwindSafe(|| self.turns()));
        let pulse = Arc::clone(&self.setup.pulse);
        match outcome {
            Ok(End::Stopped) => {
                self.record.timed(self.device.way_times());
                pulse.set(State::Ended);
            }
            Ok(End::Failed(error)) => {
                tracing::error!(device = self.setup.me.0, %error, "a device failed");
                pulse.fail(error.to_string());
            }
            Err(panic) => {
                let text = text_of(&*panic);
                tracing::error!(device = self.setup.me.0, text, "a device panicked");
                pulse.fail(format!("it panicked: {text}"));
            }
        }
        self.record
    }

    fn turns(&mut self) -> End {
        let mut worked = true;
        loop {
            match self.turn(worked) {
                Ok(computed) => worked = computed,
                Err(end) => return end,
            }
        }
    }

    fn now(&self) -> Moment {
        Moment(self.setup.begun.elapsed())
    }

    /// True if something was computed.
    fn turn(&mut self, worked: bool) -> Result<bool, End> {
        let looked = self.now();
        self.setup.pulse.beat(looked);
        self.setup.pulse.set_held(self.pipeline.core().kv().held());
        self.show();
        let mut wait = if worked { Duration::ZERO } else { self.idle() };
        let received = self.now();
        while let Some(message) = self.transport.receive(wait)? {
            wait = Duration::ZERO;
            self.take(message)?;
        }
        let woken = self.now();
        let Self { sequences, pipeline, setup, .. } = self;
        let started = sequences.start(pipeline, setup.greedy);
        let starts = if started > 0 { self.now().since(woken) } else { Duration::ZERO };
        self.record.started(started, starts);
        self.admit()?;
        let begin = self.now();
        self.record.look(&self.pipeline, begin);
        let Some(work) = self.pipeline.begin(begin) else { return Ok(false) };
        let (stage, entries) = (work.stage, work.entries);
        let Setup { compare, costs, layout, .. } = &mut self.setup;
        self.record.begins(&work);
        let compare = compare.as_mut().filter(|_| self.comparing);
        let predicted = compare.map(|of| of.recent.predict(costs, &work, &layout.sub_layers));
        self.pipeline.compute(&mut self.device)?;
        let end = self.now();
        let mut out = std::mem::take(&mut self.out);
        let mut outbox = std::mem::take(&mut self.outbox);
        self.pipeline.complete(end, &mut out, &mut outbox);
        self.setup.pulse.add(out.rows_out());
        let sends = self.now();
        for parcel in outbox.drain(..) {
            self.send(parcel)?;
        }
        let sent = self.now();
        self.tokens(&mut out);
        (self.out, self.outbox) = (out, outbox);
        let end = self.now();
        // What a call leaves to be sent, and the choice of tokens, belong to its time.
        self.record.call(Span { stage, begin, end, entries });
        if let Some(predicted) = predicted {
            // What is done with parcels is predicted by itself, and starting sequences.
            let parcels = woken.since(received) + sent.since(sends);
            let time = end.since(looked).saturating_sub(parcels + starts);
            let name = stage_name(stage, &self.setup.layout.sub_layers);
            self.record.compared(name, predicted, time.as_secs_f64());
        }
        Ok(true)
    }

    /// Tells what it does, now and then.
    fn show(&mut self) {
        let now = self.now();
        if now.since(self.shown) >= SHOW {
            self.shown = now;
            self.setup.pulse.show(DeviceView::of(&self.record, &self.pipeline, now));
        }
    }

    /// How long to wait for a message.
    fn idle(&self) -> Duration {
        let asks_again = self.pipeline.asks_again();
        asks_again.map_or(IDLE, |at| at.since(self.now()).min(IDLE))
    }

    fn admit(&mut self) -> Result<(), End> {
        let now = self.now();
        self.pipeline.admit(now);
        let notices = self.pipeline.notices();
        let (from, epoch) = (self.setup.me, self.epoch);
        for (lane, notice) in notices {
            for to in (0..self.setup.placement.devices()).map(DeviceId).filter(|to| *to != from) {
                // Who cannot be reached is for the cluster to notice.
                let _ = self.transport.send(to, Message::Notice { epoch, from, lane, notice });
            }
        }
        Ok(())
    }

    fn send(&mut self, parcel: Parcel) -> Result<(), End> {
        let begin = self.now();
        let (at, to) = (parcel.sub_layer, parcel.to);
        let payload = match parcel.leg {
            _ if parcel.vectors() == 0 => None,
            Leg::Inputs => Some(self.device.inputs(at, &parcel.rows, to)?),
            Leg::Results => Some(self.device.parts(at, &parcel.parts, to)?),
        };
        let sent = self.now();
        self.record.sent(parcel.vectors());
        self.record.packed(parcel.vectors() * self.device.vector_bytes(), sent.since(begin));
        let predicted = self.link().map(|link| 1e-6 * link.packing_us(parcel.vectors()));
        let message = Message::Parcel { epoch: self.epoch, sent, parcel, payload };
        if let Err(error) = self.transport.send(to, message) {
            tracing::warn!(device = self.setup.me.0, %error, "a parcel is lost");
            self.setup.pulse.suspect(to);
        }
        if let Some(predicted) = predicted {
            self.record.compared(PARCEL, predicted, self.now().since(begin).as_secs_f64());
        }
        Ok(())
    }

    /// What parcels are compared with, if they are.
    fn link(&self) -> Option<Link> {
        self.setup.compare.as_ref().filter(|_| self.comparing).map(|of| of.link)
    }

    fn take(&mut self, message: Message<D::Payload>) -> Result<(), End> {
        let epoch = match &message {
            Message::Parcel { epoch, .. } | Message::Notice { epoch, .. } => *epoch,
            Message::Command(_) => self.epoch,
        };
        match epoch.cmp(&self.epoch) {
            // Of before a device was lost.
            Ordering::Less => return Ok(()),
            Ordering::Greater => {
                self.early.push(message);
                return Ok(());
            }
            Ordering::Equal => {}
        }
        match message {
            Message::Parcel { sent, parcel, payload, .. } => {
                let now = self.now();
                let at = parcel.sub_layer;
                let parts = self.pipeline.receive(&parcel, now);
                let holds = payload.is_some();
                match (parcel.leg, payload) {
                    (_, None) => {}
                    (Leg::Inputs, Some(payload)) => self.device.put_inputs(at, &parcel.rows, payload)?,
                    (Leg::Results, Some(payload)) => self.device.put_parts(at, &parts, payload)?,
                }
                let taken = self.now();
                if holds {
                    self.record.unpacked(sent, now, taken);
                }
                if let Some(link) = self.link() {
                    let told = self.setup.costs.parcel.seconds(parcel.parts.len());
                    let predicted = told + 1e-6 * link.packing_us(parcel.vectors());
                    self.record.compared(PARCEL, predicted, taken.since(now).as_secs_f64());
                }
            }
            Message::Notice { from, lane, notice, .. } => self.pipeline.hear(from, lane, notice),
            Message::Command(command) => return self.obey(command),
        }
        Ok(())
    }

    fn obey(&mut self, command: Command) -> Result<(), End> {
        match command {
            Command::Start(start) => self.sequences.wait(start),
            Command::Cancel(request) => self.sequences.cancel(request, &mut self.pipeline),
            Command::SetMode { mode, change } => self.pipeline.set_mode(mode, change),
            Command::Reset { epoch, placement, mode } => {
                self.epoch = epoch;
                self.sequences.clear();
                let lanes = lanes(&self.setup, &placement);
                let first = self.setup.schedule.mode();
                self.setup.placement = placement;
                self.pipeline.replace_lanes(lanes, first.pace);
                if mode != first && self.setup.schedule == ScheduleKind::Adaptive {
                    self.pipeline.set_mode(mode, 0);
                }
                for message in std::mem::take(&mut self.early) {
                    self.take(message)?;
                }
            }
            Command::ResetRecord => self.record.reset(self.now()),
            Command::SetComparing(comparing) => self.comparing = comparing,
            Command::Stop => return Err(End::Stopped),
        }
        Ok(())
    }

    fn tokens(&mut self, out: &mut Finished) {
        let Self { sequences, setup, pipeline, epoch, .. } = self;
        let at = setup.begun.elapsed();
        let mut outcomes = Vec::new();
        for (id, logits) in out.each_mut() {
            outcomes.extend(sequences.next(id, pipeline, |request| (setup.choose)(request, logits)));
        }
        for (id, token) in out.chosen.drain(..) {
            outcomes.extend(sequences.next(id, pipeline, |_| token));
        }
        if !outcomes.is_empty() {
            deliver(setup, Report { epoch: *epoch, at, outcomes });
        }
    }
}

fn text_of(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message")
}

/// Who reads too slowly is waited for, which is not to be taken for a stalled device.
fn deliver(setup: &Setup, report: Report) {
    if let Err(error) = setup.events.try_send(report) {
        setup.pulse.set(State::Delivering);
        let (std::sync::mpsc::TrySendError::Full(report)
        | std::sync::mpsc::TrySendError::Disconnected(report)) = error;
        // With nobody to read it the cluster has gone, which the next look into the inbox tells.
        let _ = setup.events.send(report);
        setup.pulse.set(State::Running);
    }
}

fn lanes(setup: &Setup, placement: &Arc<Placement>) -> Vec<Executor> {
    Executor::lanes(&setup.layout, placement, setup.me, setup.schedule, &setup.costs)
}
