//! A model's devices as one: requests in, tokens out, whatever happens to a device in between.

mod fault;
mod messages;
mod requests;

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{
        Arc,
        mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use reprise_scheduler::{
    ConfigError, Core, CoreConfig, DeviceId, Exchange, Mode, ModelLayout, Moment, Placement, ScheduleKind,
    placement::PlacementError,
    schedule::{Control, ControlConfig, RowsOut, StageCosts},
};
use thiserror::Error;

use crate::{
    record::Record,
    transport::{Message, threads},
    view::Watch,
    worker::{Choose, Compare, Pulse, Setup, Worker},
};
pub use fault::Lost;
pub use messages::{Command, Event, RequestId, Start};
pub(crate) use messages::{Outcome, Report};
use requests::Request;

/// What a cluster computes, and how.
pub struct ClusterConfig {
    /// Bounds of each device with attention.
    pub ticks: CoreConfig,
    pub schedule: ScheduleKind,
    /// Predicted times of the devices, for schedules that predict.
    pub costs: StageCosts,
    pub control: ControlConfig,
    pub placement: Placement,
    /// What is left to compute with when devices are lost; none: replicas alone ([`Placement::without`]).
    pub replan: Option<Replan>,
    /// A device that has not moved for so long is lost. Longer than any call takes.
    pub stall: Duration,
    /// How long an idle device looks for a message before its thread parks: longer where each has a core to itself
    /// ([`SPIN`](crate::transport::SPIN) where not).
    pub spin: Duration,
    /// Tokens are the largest logits. Devices that can choose them do, and the others leave it to `choose`, which must agree.
    pub greedy: bool,
    /// What costs predict of calls, and this way of parcels, is compared with what they take ([`Record::compared`](crate::record::Record::compared)),
    /// while it is told to ([`Cluster::set_comparing`]).
    pub compare: Option<Compare>,
    /// Calls are kept for a timeline.
    pub keep_spans: bool,
}

impl std::fmt::Debug for ClusterConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { ticks, schedule, placement, stall, .. } = self;
        let mut debug = f.debug_struct("ClusterConfig");
        debug.field("ticks", ticks).field("schedule", schedule).field("placement", placement);
        debug.field("stall", stall).finish_non_exhaustive()
    }
}

/// Places the model on these devices.
pub type Replan = Box<dyn Fn(&[DeviceId]) -> Result<Placement, PlacementError> + Send>;

/// Reports that nobody has read yet, at most; a worker with another one waits.
const REPORTS: usize = 4096;

/// Why there is no cluster.
#[derive(Debug, Error)]
pub enum ClusterError {
    #[error("{found} devices for a placement on {expected}")]
    Devices { found: usize, expected: u16 },
    #[error("device {} has room for {rows} rows; {attention} lanes of {each} rows need {}", device.0, attention * each)]
    Rows { device: DeviceId, rows: usize, attention: usize, each: usize },
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error("cannot start the thread of device {}: {source}", device.0)]
    Thread { device: DeviceId, source: std::io::Error },
}

/// Why a request got no more tokens.
#[derive(Debug, Error, Clone, PartialEq, Eq)]
pub enum RequestError {
    #[error(transparent)]
    Never(#[from] reprise_scheduler::StartError),
    #[error("lost with device {} ({why}), and no other has its part: {reason}", device.0)]
    Lost { device: DeviceId, why: String, reason: PlacementError },
}

/// Threads of devices, and the requests that they compute.
pub struct Cluster<P: Send + 'static> {
    layout: ModelLayout,
    /// Knows what can never be computed.
    core: Core,
    schedule: ScheduleKind,
    control: Control,
    placement: Arc<Placement>,
    replan: Option<Replan>,
    stall: Duration,
    /// When the devices were looked after last, and since when without a pause.
    looked: Moment,
    fair_from: Moment,
    begun: Instant,
    epoch: u64,
    /// Changes of mode so far.
    changes: u32,
    /// Of all devices, that the control knows of.
    out: RowsOut,
    /// Instead of what the control keeps, and since when.
    held: Option<(Mode, Moment)>,
    /// For so long the control was not asked, in all.
    paused: Duration,
    /// By device.
    workers: Vec<Handle<P>>,
    events: Receiver<Report>,
    requests: BTreeMap<RequestId, Request>,
    /// Those that no device has yet, in order; some may be over.
    unsent: VecDeque<RequestId>,
    /// By device, the requests that it has.
    loads: Vec<usize>,
    /// The most of these.
    window: usize,
    next: u64,
    lost: Vec<Lost>,
    /// Nothing can be computed any more.
    broken: Option<RequestError>,
}

struct Handle<P> {
    commands: SyncSender<Message<P>>,
    pulse: Arc<Pulse>,
    thread: Option<JoinHandle<Record>>,
    alive: bool,
}

impl<P: Send + 'static> std::fmt::Debug for Cluster<P> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cluster").field("epoch", &self.epoch).field("requests", &self.requests.len()).finish()
    }
}

impl<P: Send + 'static> Cluster<P> {
    /// Starts a thread for each device. `choose` makes the choice of tokens of one device.
    ///
    /// # Errors
    /// Devices, bounds and placement do not fit each other, or a thread cannot be started.
    pub fn start<D>(
        devices: Vec<D>,
        config: ClusterConfig,
        choose: impl Fn() -> Choose,
    ) -> Result<Self, ClusterError>
    where
        D: Exchange<Payload = P> + Send + 'static,
    {
        let ClusterConfig { ticks, schedule, costs, control, placement, replan, stall, .. } = config;
        let ClusterConfig { spin, greedy, compare, keep_spans, .. } = config;
        let (found, expected) = (devices.len(), placement.devices());
        if found < usize::from(expected) || found == 0 {
            return Err(ClusterError::Devices { found, expected });
        }
        // Each lane of a device has rows of its own.
        let attention = placement.attention().len() * usize::from(schedule.lanes());
        for (device, backend) in (0..).map(DeviceId).zip(&devices) {
            let (rows, each) = (backend.layout().rows, ticks.max_rows);
            if rows < attention * each {
                return Err(ClusterError::Rows { device, rows, attention, each });
            }
        }
        let begun = Instant::now();
        let placement = Arc::new(placement);
        let rows = attention * ticks.max_rows;
        // Each row in flight has at most as many parcels under way as parts, each way.
        let capacity = 4096 + 16 * rows;
        let (transports, commands) = threads(u16::try_from(found).unwrap_or(u16::MAX), capacity, spin);
        let (sender, events) = sync_channel(REPORTS);
        let first = placement.attention().first().map_or(0, |device| usize::from(device.0));
        let layout = ModelLayout { rows, ..devices[first].layout().clone() };
        let mut workers = Vec::with_capacity(found);
        let parts = devices.into_iter().zip(transports).zip(commands);
        for (device, ((backend, transport), commands)) in (0..).map(DeviceId).zip(parts) {
            let pulse = Arc::new(Pulse::default());
            let setup = Setup {
                me: device,
                // The KV is each device's own.
                layout: ModelLayout { rows, ..backend.layout().clone() },
                config: ticks,
                schedule,
                costs,
                placement: Arc::clone(&placement),
                choose: choose(),
                pulse: Arc::clone(&pulse),
                events: sender.clone(),
                begun,
                greedy,
                compare: compare.clone(),
                keep_spans,
            };
            let worker = Worker::new(setup, backend, transport)?;
            let thread = std::thread::Builder::new()
                .name(format!("device-{}", device.0))
                .spawn(move || worker.run())
                .map_err(|source| ClusterError::Thread { device, source })?;
            workers.push(Handle { commands, pulse, thread: Some(thread), alive: true });
        }
        Ok(Self {
            core: Core::new(ticks, &layout)?,
            layout,
            schedule,
            control: Control::new(control, placement.has_copies()),
            placement,
            replan,
            stall,
            looked: Moment::default(),
            fair_from: Moment::default(),
            begun,
            epoch: 0,
            changes: 0,
            out: RowsOut::default(),
            held: None,
            paused: Duration::ZERO,
            workers,
            events,
            requests: BTreeMap::new(),
            unsent: VecDeque::new(),
            loads: vec![0; found],
            // Enough that none waits for a request, and far below what an inbox holds.
            window: 2 * ticks.max_sequences + 64,
            next: 0,
            lost: Vec::new(),
            broken: None,
        })
    }

    /// Time since its start, on which events are timed.
    #[must_use]
    pub fn now(&self) -> Moment {
        Moment(self.begun.elapsed())
    }

    /// What happened since the last call, waiting for it at most so long. Whoever waits for tokens must call this: it also looks after the
    /// devices.
    pub fn poll(&mut self, wait: Duration) -> Vec<Event> {
        let mut events = Vec::new();
        match self.events.recv_timeout(wait) {
            Ok(report) => self.report(report, &mut events),
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {}
        }
        while let Ok(report) = self.events.try_recv() {
            self.report(report, &mut events);
        }
        self.look_after(&mut events);
        self.send_waiting();
        if self.schedule == ScheduleKind::Adaptive && self.broken.is_none() && self.held.is_none() {
            self.control_mode();
        }
        events
    }

    fn control_mode(&mut self) {
        let all = self.rows_out();
        let out = all.since(std::mem::replace(&mut self.out, all));
        if let Some(mode) = self.control.observe(self.control_now(), out, self.requests.len()) {
            self.set_mode(mode);
        }
    }

    /// Of the control's clock, which stands still while it is not asked.
    fn control_now(&self) -> Moment {
        Moment(self.now().0.saturating_sub(self.paused))
    }

    /// An adaptive schedule does this, whatever pays, until it is told otherwise; none: what its control keeps, which goes on as if nothing had
    /// been between. For measurements that take turns.
    pub fn hold(&mut self, mode: Option<Mode>) {
        if self.schedule != ScheduleKind::Adaptive {
            return;
        }
        let (before, now) = (self.mode(), self.now());
        let since = self.held.take().map(|(_, since)| since);
        match (mode, since) {
            (Some(mode), since) => self.held = Some((mode, since.unwrap_or(now))),
            (None, Some(since)) => {
                self.paused += now.since(since);
                self.out = self.rows_out();
                let now = self.control_now();
                self.control.settle(now);
            }
            (None, None) => {}
        }
        if self.mode() != before {
            self.set_mode(self.mode());
        }
    }

    /// Rows that came out of all devices since its start.
    #[must_use]
    pub fn rows_out(&self) -> RowsOut {
        self.workers.iter().map(|handle| handle.pulse.rows_out()).sum()
    }

    /// For whoever wants to see what the devices do.
    #[must_use]
    pub fn watch(&self) -> Watch {
        Watch::new(self.workers.iter().map(|handle| Arc::clone(&handle.pulse)))
    }

    /// What an adaptive schedule has the devices do now.
    #[must_use]
    pub const fn mode(&self) -> Mode {
        match self.held {
            Some((mode, _)) => mode,
            None => self.control.mode(),
        }
    }

    fn set_mode(&mut self, mode: Mode) {
        self.changes += 1;
        self.tell(|| Command::SetMode { mode, change: self.changes });
    }

    /// All devices that were not lost.
    fn tell(&self, command: impl Fn() -> Command) {
        self.workers.iter().filter(|handle| handle.alive).for_each(|handle| handle.command(command()));
    }

    /// Forgets what was recorded until now, but for how calls compared.
    pub fn reset_records(&self) {
        self.tell(|| Command::ResetRecord);
    }

    /// Whether calls are compared from now on, where a cluster was started with something to compare them with.
    pub fn set_comparing(&self, comparing: bool) {
        self.tell(|| Command::SetComparing(comparing));
    }

    /// Ends all threads; what each device did, by device. Nothing of a device that was lost.
    pub fn stop(mut self) -> Vec<Option<Record>> {
        self.shut_down()
    }

    fn shut_down(&mut self) -> Vec<Option<Record>> {
        for handle in &self.workers {
            handle.command(Command::Stop);
        }
        // Meanwhile their events are read, or one that is full would hold them up.
        let late = Instant::now() + 2 * self.stall;
        let ended = |handle: &Handle<P>| handle.thread.as_ref().is_none_or(JoinHandle::is_finished);
        while self.workers.iter().any(|handle| handle.alive && !ended(handle)) && Instant::now() < late {
            let _ = self.events.recv_timeout(Duration::from_millis(1));
        }
        // A thread that is stuck in a call cannot be ended: it is left alone, and ends with its call.
        let end = |handle: &mut Handle<P>| {
            let thread = handle.thread.take()?;
            if thread.is_finished() { thread.join().ok() } else { None }
        };
        self.workers.iter_mut().map(end).collect()
    }
}

impl<P: Send + 'static> Drop for Cluster<P> {
    fn drop(&mut self) {
        self.shut_down();
    }
}

impl<P> Handle<P> {
    /// An inbox that is full is that of a stuck device, which the next look notices.
    fn command(&self, command: Command) {
        let _ = self.commands.try_send(Message::Command(command));
    }
}
