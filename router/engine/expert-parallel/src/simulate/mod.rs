//! Discrete events: devices that take the times of a [`Profile`] instead of computing. Placement, schedules, queues, join pool and barrier are
//! those of a [`Cluster`](crate::Cluster), the same code; KV blocks and continuous batching too.
//!
//! Simplified: commands take no time; a device packs, sends and unpacks one parcel after the other; a call takes what is
//! predicted, as many times as others like it were seen to, and a processor that several devices share computes what they launch one after the other, as a GPU does large kernels.

mod device;
mod gates;

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, HashMap},
    sync::Arc,
    time::Duration,
};

use reprise_scheduler::{
    ConfigError, CoreConfig, DeviceId, ModelLayout, Moment, Notice, Parcel, Placement, ScheduleKind,
    schedule::{Control, ControlConfig, RowsOut},
};

pub use gates::Gates;

use crate::{
    cluster::RequestId,
    profile::Profile,
    record::{Modes, Record},
    workload::{Arrivals, Workload},
};
use device::Device;

/// What is simulated.
#[derive(Debug, Clone)]
pub struct Config {
    /// `rows` of all devices with attention together.
    pub layout: ModelLayout,
    pub ticks: CoreConfig,
    pub schedule: ScheduleKind,
    pub control: ControlConfig,
    pub placement: Placement,
    pub profile: Profile,
    pub gates: Gates,
    /// What each device computes on: several streams of one GPU share it.
    pub processors: Vec<usize>,
    /// A device that takes so many times as long as predicted.
    pub straggler: Option<(DeviceId, f64)>,
    pub workload: Workload,
    /// Virtual time that is left out, and that is measured.
    pub warm_up: Duration,
    pub measured: Duration,
    /// Of what chance has in times that calls were seen to take.
    pub seed: u64,
    pub keep_spans: bool,
}

/// What came of it, of the measured time alone.
#[derive(Debug)]
pub struct Outcome {
    pub tokens: u64,
    pub requests: u64,
    /// Seconds between two tokens of one sequence.
    pub gaps: Vec<f64>,
    /// Seconds from arrival to the first token.
    pub first: Vec<f64>,
    pub records: Vec<Record>,
    pub until: Moment,
    /// Of an adaptive schedule; of others all is lock-step.
    pub modes: Modes,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    /// A request of those that are sent at once.
    Request,
    /// One that comes by chance.
    Arrival,
    /// A device's call is over.
    Done(usize),
    /// A parcel has arrived.
    Delivery(usize, u64),
    /// A notice has arrived: to whom, from whom, of which lane.
    Notice(usize, usize, u8, u64),
    /// A device has waited for more for as long as it wanted.
    Look(usize),
}

/// A request under way.
#[derive(Debug)]
struct Progress {
    arrived: Moment,
    last: Option<Moment>,
}

/// A simulation in progress.
struct Simulation {
    config: Config,
    devices: Vec<Device>,
    /// When each processor has done all that it was told.
    free: HashMap<usize, Moment>,
    events: BinaryHeap<Reverse<(Moment, u64, Event)>>,
    parcels: HashMap<u64, Parcel>,
    notices: HashMap<u64, Notice>,
    now: Moment,
    count: u64,
    submitted: u64,
    requests: HashMap<RequestId, Progress>,
    control: Control,
    changes: u32,
    outcome: Outcome,
}

/// Runs it.
///
/// # Errors
/// The bounds contradict each other or the layout.
pub fn simulate(config: Config) -> Result<Outcome, ConfigError> {
    let placement = Arc::new(config.placement.clone());
    let device = |id| Device::new(&config, &placement, DeviceId(id));
    let devices = (0..placement.devices()).map(device).collect::<Result<Vec<_>, _>>()?;
    let outcome = Outcome {
        tokens: 0,
        requests: 0,
        gaps: Vec::new(),
        first: Vec::new(),
        records: Vec::new(),
        until: Moment::default(),
        modes: Modes::default(),
    };
    let mut simulation = Simulation {
        devices,
        free: HashMap::new(),
        events: BinaryHeap::new(),
        parcels: HashMap::new(),
        notices: HashMap::new(),
        now: Moment::default(),
        count: 0,
        submitted: 0,
        requests: HashMap::new(),
        control: Control::new(config.control, config.placement.has_copies()),
        changes: 0,
        outcome,
        config,
    };
    simulation.run();
    Ok(simulation.finish())
}

impl Simulation {
    fn run(&mut self) {
        match self.config.workload.arrivals {
            Arrivals::Closed(count) => {
                let each = Duration::from_secs_f64(1e-6 * self.config.profile.request_us.max(0.0));
                let mut at = Duration::ZERO;
                for _ in 0..count {
                    self.at(Moment(at), Event::Request);
                    at += each;
                }
            }
            Arrivals::Poisson(_) => self.at(Moment::default(), Event::Arrival),
        }
        let (warm_up, mut warm) = (Moment(self.config.warm_up), false);
        let end = Moment(self.config.warm_up + self.config.measured);
        self.wake((0..self.devices.len()).collect());
        while let Some(Reverse((at, _, event))) = self.events.pop() {
            if !warm && at >= warm_up {
                warm = true;
                self.devices.iter_mut().for_each(|device| device.record.reset(warm_up));
            }
            if at >= end {
                break;
            }
            if warm {
                let time = at.0.saturating_sub(self.now.0.max(warm_up.0));
                self.outcome.modes.add(self.control.mode(), time);
            }
            self.now = at;
            self.happen(event);
        }
        self.now = end;
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Request => self.submit(),
            Event::Arrival => {
                self.submit();
                if let Some(gap) = self.config.workload.gap(self.submitted) {
                    self.at(Moment(self.now.0 + gap), Event::Arrival);
                }
            }
            Event::Delivery(to, parcel) => {
                if let Some(parcel) = self.parcels.remove(&parcel) {
                    self.devices[to].deliver(parcel);
                    self.wake(vec![to]);
                }
            }
            Event::Notice(to, from, lane, name) => {
                if let Some(notice) = self.notices.remove(&name) {
                    let from = DeviceId(u16::try_from(from).unwrap_or(u16::MAX));
                    self.devices[to].hear(from, lane, notice);
                    self.wake(vec![to]);
                }
            }
            Event::Look(device) => self.wake(vec![device]),
            Event::Done(device) => {
                let done = self.devices[device].complete(self.now);
                for (at, parcel) in done.parcels {
                    self.send(device, at, parcel);
                }
                self.tokens(&done.tokens);
                self.control_mode(done.rows);
                self.wake(vec![device]);
            }
        }
    }

    fn at(&mut self, at: Moment, event: Event) {
        self.count += 1;
        self.events.push(Reverse((at, self.count, event)));
    }

    fn submit(&mut self) {
        self.submitted += 1;
        let id = RequestId(self.submitted);
        let workload = self.config.workload;
        let job = match workload.arrivals {
            Arrivals::Closed(count) if self.submitted <= count as u64 => {
                workload.job_at_start(self.submitted)
            }
            Arrivals::Closed(_) | Arrivals::Poisson(_) => workload.job(self.submitted),
        };
        let attention = self.config.placement.attention();
        let load = |device: &DeviceId| self.devices[usize::from(device.0)].load();
        let device = attention.iter().copied().min_by_key(load).map_or(0, |device| usize::from(device.0));
        self.requests.insert(id, Progress { arrived: self.now, last: None });
        self.devices[device].submit(id, job);
        self.wake(vec![device]);
    }

    fn send(&mut self, from: usize, at: Moment, parcel: Parcel) {
        let link = self.config.profile.link;
        let (to, vectors) = (usize::from(parcel.to.0), parcel.vectors());
        let at = self.devices[from].occupy_link(at, vectors, link);
        self.count += 1;
        let name = self.count;
        self.parcels.insert(name, parcel);
        self.at(at, Event::Delivery(to, name));
    }

    fn tokens(&mut self, tokens: &[(RequestId, bool)]) {
        let measured = self.now.0 >= self.config.warm_up;
        for (id, last) in tokens {
            let Some(progress) = self.requests.get_mut(id) else { continue };
            let seconds = |since: Moment| self.now.since(since).as_secs_f64();
            match progress.last.replace(self.now) {
                _ if !measured => {}
                Some(before) => self.outcome.gaps.push(seconds(before)),
                None => self.outcome.first.push(seconds(progress.arrived)),
            }
            self.outcome.tokens += u64::from(measured);
            if *last {
                self.outcome.requests += u64::from(measured);
                self.requests.remove(id);
                if let Arrivals::Closed(_) = self.config.workload.arrivals {
                    let later = Duration::from_secs_f64(1e-6 * self.config.profile.turnaround_us.max(0.0));
                    if later.is_zero() {
                        self.submit();
                    } else {
                        self.at(Moment(self.now.0 + later), Event::Request);
                    }
                }
            }
        }
    }

    fn control_mode(&mut self, rows: RowsOut) {
        if self.config.schedule != ScheduleKind::Adaptive {
            return;
        }
        let running = self.devices.iter().map(Device::running).sum();
        if let Some(mode) = self.control.observe(self.now, rows, running) {
            self.changes += 1;
            let change = self.changes;
            self.devices.iter_mut().for_each(|device| device.set_mode(mode, change));
            self.wake((0..self.devices.len()).collect());
        }
    }

    /// Has devices that are idle look for work, and those that they tell something.
    fn wake(&mut self, mut devices: Vec<usize>) {
        while let Some(device) = devices.pop() {
            let free = self.free.entry(self.config.processors[device]).or_default();
            let woken = self.devices[device].wake(self.now, free);
            if let Some(end) = woken.busy_until {
                self.at(end, Event::Done(device));
            }
            if let Some(at) = woken.asks_again {
                self.at(at, Event::Look(device));
            }
            for (lane, notice) in woken.notices {
                self.tell(device, lane, notice);
            }
        }
    }

    /// All others, in order with the parcels.
    fn tell(&mut self, from: usize, lane: u8, notice: Notice) {
        let link = self.config.profile.link;
        let at = self.devices[from].occupy_link(self.now, 0, link);
        for to in (0..self.devices.len()).filter(|to| *to != from) {
            self.count += 1;
            let name = self.count;
            self.notices.insert(name, notice);
            self.at(at, Event::Notice(to, from, lane, name));
        }
    }

    fn finish(self) -> Outcome {
        let records = self.devices.into_iter().map(|device| device.record).collect();
        Outcome { records, until: self.now, ..self.outcome }
    }
}

#[cfg(test)]
mod tests;
