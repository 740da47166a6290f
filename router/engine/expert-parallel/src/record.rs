//! What a device did, measured or simulated.

use std::{collections::BTreeMap, time::Duration};

use reprise_scheduler::{
    ExpertId, Mode, ModelLayout, Moment, Pipeline, Stage, SubLayerId, WayTimes, Work, placement::Loads,
};
use serde::Serialize;

use crate::profile::InTurn;

/// Queues are looked at before every so many calls.
const LOOK: u64 = 16;
/// Calls of a stage, or parcels, that are compared, at most: some seconds of small ones.
const COMPARED: usize = 100_000;
/// Spans kept for a timeline, at most.
const SPANS: usize = 200_000;

/// A call of a device.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Span {
    pub stage: Stage,
    pub begin: Moment,
    pub end: Moment,
    /// Rows, or parts.
    pub entries: usize,
}

/// Time in each mode, of an adaptive schedule.
#[derive(Debug, Clone, Default)]
pub struct Modes(BTreeMap<Mode, Duration>);

impl Modes {
    pub fn add(&mut self, mode: Mode, time: Duration) {
        *self.0.entry(mode).or_default() += time;
    }

    /// Of all the time that was added.
    #[must_use]
    pub fn share(&self, of: impl Fn(Mode) -> bool) -> f64 {
        let all: Duration = self.0.values().sum();
        let time: Duration = self.0.iter().filter(|(mode, _)| of(**mode)).map(|(_, time)| *time).sum();
        time.as_secs_f64() / all.as_secs_f64().max(f64::MIN_POSITIVE)
    }
}

/// Everything of one device since the last reset.
#[derive(Debug, Clone, Default)]
pub struct Record {
    since: Moment,
    until: Moment,
    busy_seconds: f64,
    calls: u64,
    stages: BTreeMap<Stage, Counts>,
    /// By sub-layer and expert: parts that it began to compute.
    parts: Vec<Vec<u64>>,
    /// Sequences, and what starting them took.
    started: (u64, f64),
    /// At queues; and per sub-layer (experts apart) the entries seen in all of these together.
    looks: u64,
    depths: BTreeMap<Stage, u64>,
    oldest_seconds: f64,
    parcels: u64,
    vectors: u64,
    way: WayCosts,
    /// By name of the stage: calls' predicted seconds, and those that they took.
    in_turn: BTreeMap<&'static str, Vec<(f64, f64)>>,
    /// When its last call began and ended.
    last: (Moment, Moment),
    keep_spans: bool,
    spans: Vec<Span>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Counts {
    calls: u64,
    entries: u64,
    largest: usize,
    seconds: f64,
}

/// What the ways to and from a device cost it. Times in seconds.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub struct WayCosts {
    pub bytes_sent: u64,
    /// The host's, for handing payloads over and for taking them in.
    pub packing: f64,
    pub unpacking: f64,
    /// Payloads taken in.
    pub taken: u64,
    /// From being sent to being taken in, all of these together, and how much of that this device was computing.
    pub under_way: f64,
    pub hidden: f64,
    /// Payloads that the device itself timed from the first number written to the last, since it began; not those of the CPU.
    pub timed: u64,
    pub writing: f64,
}

/// A kind of stage of one device.
#[derive(Debug, Clone, Serialize)]
pub struct StageReport {
    pub calls: u64,
    pub mean_entries: f64,
    pub largest_entries: usize,
    pub seconds: f64,
}

/// One device.
#[derive(Debug, Clone, Serialize)]
pub struct DeviceReport {
    pub device: usize,
    pub idle_share: f64,
    pub calls: u64,
    /// By kind: embed, attention and dense and gate as `sub_layer`, experts, head.
    pub stages: BTreeMap<&'static str, StageReport>,
    /// Parts that its experts computed.
    pub expert_parts: u64,
    /// Mean entries that waited, by sub-layer where any did: `s3`; `e3` for the experts of a gated one.
    pub mean_queue_depth: BTreeMap<String, f64>,
    /// The longest that any entry was seen to wait.
    pub oldest_entry_ms: f64,
    pub parcels_sent: u64,
    pub vectors_sent: u64,
    pub way: WayCosts,
}

impl Record {
    #[must_use]
    pub fn new(now: Moment, keep_spans: bool) -> Self {
        Self { since: now, until: now, keep_spans, ..Self::default() }
    }

    /// Before a call.
    pub fn look(&mut self, pipeline: &Pipeline, now: Moment) {
        if !self.calls.is_multiple_of(LOOK) {
            return;
        }
        if let Some(oldest) = pipeline.oldest() {
            self.oldest_seconds = self.oldest_seconds.max(now.since(oldest).as_secs_f64());
        }
        self.looks += 1;
        for queue in pipeline.waiting() {
            *self.depths.entry(queue.stage).or_default() += queue.depth as u64;
        }
    }

    pub fn call(&mut self, span: Span) {
        let Span { stage, begin, end, entries } = span;
        let seconds = end.since(begin.max(self.since)).as_secs_f64();
        self.busy_seconds += seconds;
        self.calls += 1;
        self.last = (begin, end);
        self.until = self.until.max(end);
        let counts = self.stages.entry(stage).or_default();
        counts.calls += 1;
        counts.entries += entries as u64;
        counts.largest = counts.largest.max(entries);
        counts.seconds += seconds;
        if self.keep_spans && self.spans.len() < SPANS {
            self.spans.push(span);
        }
    }

    /// A call begins.
    pub fn begins(&mut self, work: &Work<'_>) {
        let Stage::Experts(sub_layer) = work.stage else { return };
        if self.parts.len() <= sub_layer {
            self.parts.resize(sub_layer + 1, Vec::new());
        }
        let counts = &mut self.parts[sub_layer];
        for part in work.parts {
            let expert = usize::from(part.expert);
            if counts.len() <= expert {
                counts.resize(expert + 1, 0);
            }
            counts[expert] += 1;
        }
    }

    /// A call, by its predicted seconds and those that it took.
    pub fn compared(&mut self, stage: &'static str, predicted: f64, took: f64) {
        if predicted > 0.0 {
            let of = self.in_turn.entry(stage).or_default();
            if of.len() < COMPARED {
                of.push((predicted, took));
            }
        }
    }

    /// So many sequences, all together in this time.
    pub fn started(&mut self, sequences: u64, time: Duration) {
        self.started.0 += sequences;
        self.started.1 += time.as_secs_f64();
    }

    pub fn sent(&mut self, vectors: usize) {
        self.parcels += 1;
        self.vectors += vectors as u64;
    }

    /// A payload was handed over.
    pub fn packed(&mut self, bytes: usize, time: Duration) {
        self.way.bytes_sent += bytes as u64;
        self.way.packing += time.as_secs_f64();
    }

    /// One was taken in, which was sent then, between these.
    pub fn unpacked(&mut self, sent: Moment, begin: Moment, end: Moment) {
        let (from, to) = self.last;
        self.way.taken += 1;
        self.way.under_way += begin.since(sent).as_secs_f64();
        // Messages are looked for after each call: none waits for longer than the last.
        self.way.hidden += to.min(begin).since(from.max(sent)).as_secs_f64();
        self.way.unpacking += end.since(begin).as_secs_f64();
    }

    /// The device's own times.
    pub fn timed(&mut self, times: WayTimes) {
        (self.way.timed, self.way.writing) = (times.transfers, times.seconds);
    }

    /// Forgets all before, but for how calls compared, and sequences' starts: most are at the beginning.
    pub fn reset(&mut self, now: Moment) {
        let (in_turn, started) = (std::mem::take(&mut self.in_turn), self.started);
        *self = Self { in_turn, started, ..Self::new(now, self.keep_spans) };
    }

    pub(crate) const fn busy_seconds(&self) -> f64 {
        self.busy_seconds
    }

    pub(crate) fn parts_of(&self, sub_layer: SubLayerId, expert: ExpertId) -> u64 {
        let counts = self.parts.get(sub_layer);
        counts.and_then(|counts| counts.get(usize::from(expert))).copied().unwrap_or(0)
    }

    /// By kind: calls, and their entries all together.
    pub(crate) fn calls(&self) -> BTreeMap<&'static str, (u64, u64)> {
        let mut kinds: BTreeMap<&'static str, (u64, u64)> = BTreeMap::new();
        for (stage, counts) in &self.stages {
            let (calls, entries) = kinds.entry(kind(*stage)).or_default();
            *calls += counts.calls;
            *entries += counts.entries;
        }
        kinds
    }

    #[must_use]
    pub fn spans(&self) -> &[Span] {
        &self.spans
    }

    #[must_use]
    pub fn report(&self, device: usize, now: Moment) -> DeviceReport {
        let wall = now.max(self.until).since(self.since).as_secs_f64().max(f64::MIN_POSITIVE);
        let mut kinds: BTreeMap<&'static str, Counts> = BTreeMap::new();
        for (stage, counts) in &self.stages {
            let kind = kinds.entry(kind(*stage)).or_default();
            kind.calls += counts.calls;
            kind.entries += counts.entries;
            kind.largest = kind.largest.max(counts.largest);
            kind.seconds += counts.seconds;
        }
        let parts = kinds.get("experts").map_or(0, |counts| counts.entries);
        let stage = |counts: Counts| StageReport {
            calls: counts.calls,
            mean_entries: counts.entries as f64 / counts.calls.max(1) as f64,
            largest_entries: counts.largest,
            seconds: counts.seconds,
        };
        let depth =
            |(stage, entries): (&Stage, &u64)| (label(*stage), *entries as f64 / self.looks.max(1) as f64);
        DeviceReport {
            device,
            idle_share: (1.0 - self.busy_seconds / wall).clamp(0.0, 1.0),
            calls: self.calls,
            stages: kinds.into_iter().map(|(kind, counts)| (kind, stage(counts))).collect(),
            expert_parts: parts,
            mean_queue_depth: self.depths.iter().map(depth).collect(),
            oldest_entry_ms: self.oldest_seconds * 1e3,
            parcels_sent: self.parcels,
            vectors_sent: self.vectors,
            way: self.way,
        }
    }
}

pub(crate) const fn kind(stage: Stage) -> &'static str {
    match stage {
        Stage::Embed => "embed",
        Stage::SubLayer(_) => "sub_layer",
        Stage::Experts(_) => "experts",
        Stage::Head => "head",
    }
}

pub(crate) fn label(stage: Stage) -> String {
    match stage {
        Stage::Embed => "embed".to_owned(),
        Stage::SubLayer(at) => format!("s{at}"),
        Stage::Experts(sub_layer) => format!("e{sub_layer}"),
        Stage::Head => "head".to_owned(),
    }
}

/// Parts that came to each expert, of all devices.
#[must_use]
pub fn loads<'a>(records: impl IntoIterator<Item = &'a Record>, layout: &ModelLayout) -> Loads {
    let records: Vec<_> = records.into_iter().collect();
    Loads::with(layout, |sub_layer, expert, _| {
        records.iter().map(|record| record.parts_of(sub_layer, expert)).sum::<u64>() as f64
    })
}

/// Seconds that a device took to start a sequence, of all devices; none where none started.
#[must_use]
pub fn start_seconds<'a>(records: impl IntoIterator<Item = &'a Record>) -> Option<f64> {
    let of = records.into_iter().map(|record| record.started);
    let (sequences, seconds) = of.fold((0, 0.0), |all, one| (all.0 + one.0, all.1 + one.1));
    (sequences > 0).then(|| seconds / sequences as f64)
}

/// By name of the stage, of all devices.
#[must_use]
pub fn in_turn<'a>(records: impl IntoIterator<Item = &'a Record>) -> BTreeMap<String, InTurn> {
    let mut all: BTreeMap<String, Vec<(f64, f64)>> = BTreeMap::new();
    for (stage, calls) in records.into_iter().flat_map(|record| &record.in_turn) {
        all.entry((*stage).to_owned()).or_default().extend(calls);
    }
    all.into_iter().map(|(stage, calls)| (stage, InTurn::of(calls))).collect()
}

/// Mean over maximum of what the devices with experts computed: 1 is even. Devices without experts do not count.
#[must_use]
pub fn balance(devices: &[DeviceReport]) -> f64 {
    let parts: Vec<u64> =
        devices.iter().map(|device| device.expert_parts).filter(|parts| *parts > 0).collect();
    let most = parts.iter().max().copied().unwrap_or(0);
    if most == 0 { 1.0 } else { parts.iter().sum::<u64>() as f64 / parts.len() as f64 / most as f64 }
}
