//! What a worker takes beside the device, of two that share a model, in one thread.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        mpsc::{SyncSender, sync_channel},
    },
    time::{Duration, Instant},
};

use reprise_scheduler::{
    BackendError, CoreConfig, DeviceId, Exchange, Executor, Finished, Leg, ModelLayout, Moment, NewSequence,
    Parcel, Pipeline, Placement, Priority, ScheduleKind, SequenceId, Stage, SubLayerKind,
    placement::{Demand, Greedy, Loads, Planner, Roles},
    schedule::StageCosts,
};

use super::HERE;
use crate::profile::{PARCEL, StageTime, WorkerTimes, stage_name};

/// Sequences of each worker: few, and then many.
const FEW: usize = 8;
/// For so many sequences, calls that are looked at, and no longer than this; but for two ticks of each worker after its first, whose memory is
/// new, for longer.
const CALLS: usize = 3000;
const MOST: Duration = Duration::from_millis(500);
const TICKS: usize = 2 * 3;
const LONGEST: Duration = Duration::from_secs(3);
/// Looks without anything to do, one after the other: then each waits for the other.
const STUCK: usize = 100;

struct Workers<'a, D> {
    device: &'a mut D,
    kinds: Vec<SubLayerKind>,
    pipelines: [Pipeline; 2],
    sequences: usize,
    started: u64,
    /// Of both.
    ticks: usize,
    out: Finished,
    /// To who reads tokens, all of a call at once.
    tokens: SyncSender<Vec<SequenceId>>,
    samples: &'a mut Samples,
}

/// Entries and microseconds, by name of the stage; and of parcels that come.
type Samples = BTreeMap<&'static str, Vec<(f64, f64)>>;

/// Nothing, where there are no experts to share.
pub(super) fn measure<D: Exchange>(device: &mut D, many: usize) -> Result<WorkerTimes, BackendError> {
    let layout = device.layout().clone();
    if !layout.sub_layers.iter().any(|kind| matches!(kind, SubLayerKind::Experts { .. })) {
        return Ok(WorkerTimes::default());
    }
    let devices = [DeviceId(0), DeviceId(1)];
    let demand = Demand {
        layout: &layout,
        devices: &devices,
        roles: Roles::Shared,
        experts_per_group: 1,
        replicas: 0,
        loads: &Loads::even(&layout),
    };
    let placement = Arc::new(Greedy.place(&demand).map_err(|error| wrong(&error))?);
    let many = many.min(layout.rows / 4).min(layout.kv_blocks / 2).max(1);
    let mut samples = Samples::new();
    std::thread::scope(|scope| {
        let (tokens, reader) = sync_channel(1);
        scope.spawn(move || reader.iter().for_each(drop));
        for sequences in [FEW.min(many), many] {
            let pipeline = |me| pipeline(&layout, &placement, me, sequences);
            let mut workers = Workers {
                device,
                kinds: layout.sub_layers.clone(),
                pipelines: [pipeline(DeviceId(0))?, pipeline(DeviceId(1))?],
                sequences,
                started: 0,
                ticks: 0,
                out: Finished::default(),
                tokens: tokens.clone(),
                samples: &mut samples,
            };
            workers.run()?;
        }
        let mut of = |name| line(samples.remove(name).unwrap_or_default());
        Ok(WorkerTimes {
            embed: of("embed"),
            attention: of("attention"),
            feed_forward: of("feed_forward"),
            gate: of("gate"),
            experts: of("experts"),
            head: of("head"),
            parcel: of(PARCEL),
        })
    })
}

fn pipeline(
    layout: &ModelLayout,
    placement: &Arc<Placement>,
    me: DeviceId,
    sequences: usize,
) -> Result<Pipeline, BackendError> {
    let schedule = ScheduleKind::Lockstep;
    let lanes = Executor::lanes(layout, placement, me, schedule, &StageCosts::default());
    let rows = (layout.rows / 2).max(1);
    let chunk = sequences.min(rows);
    let config = CoreConfig { max_sequences: chunk, prefill_chunk: chunk, max_rows: rows };
    Pipeline::with_lanes(config, layout, lanes, schedule.mode().pace).map_err(|error| wrong(&error))
}

fn wrong(error: &dyn std::fmt::Display) -> BackendError {
    BackendError(error.to_string())
}

impl<D: Exchange> Workers<'_, D> {
    fn run(&mut self) -> Result<(), BackendError> {
        let begun = Instant::now();
        let (mut calls, mut idle) = (0, 0);
        let goes_on = |calls, ticks| match begun.elapsed() {
            time if ticks < TICKS => time < LONGEST,
            time => calls < CALLS && time < MOST,
        };
        while idle < STUCK && goes_on(calls, self.ticks) {
            for me in 0..2 {
                let computed = self.turn(me)?;
                calls += usize::from(computed);
                idle = if computed { 0 } else { idle + 1 };
            }
        }
        Ok(())
    }

    /// False: there was nothing to compute.
    fn turn(&mut self, me: usize) -> Result<bool, BackendError> {
        self.start(me)?;
        let now = Moment::default();
        let begun = Instant::now();
        self.pipelines[me].admit(now);
        let notices = self.pipelines[me].notices();
        let work = self.pipelines[me].begin(now).map(|work| (work.stage, work.entries));
        let mut worker = begun.elapsed();
        let from = DeviceId(u16::try_from(me).unwrap_or(0));
        for (lane, notice) in notices {
            self.pipelines[1 - me].hear(from, lane, notice);
        }
        let Some((stage, entries)) = work else { return Ok(false) };
        self.pipelines[me].compute(self.device)?;
        let begun = Instant::now();
        let mut outbox = Vec::new();
        self.pipelines[me].complete(now, &mut self.out, &mut outbox);
        self.go_on(me);
        worker += begun.elapsed();
        self.sample(stage_name(stage, &self.kinds), entries, worker);
        self.ticks += usize::from(stage == Stage::Head);
        for parcel in outbox {
            self.pass(&parcel, 1 - me)?;
        }
        Ok(true)
    }

    fn sample(&mut self, name: &'static str, entries: usize, time: Duration) {
        // Memory is new before.
        if self.ticks >= 2 {
            self.samples.entry(name).or_default().push((entries as f64, time.as_secs_f64() * 1e6));
        }
    }

    /// A sequence has one block of KV, and ends when that is full.
    fn length(&self) -> usize {
        self.device.layout().kv_block_tokens.saturating_sub(1).max(1)
    }

    fn start(&mut self, me: usize) -> Result<(), BackendError> {
        let max_new = self.length();
        while self.pipelines[me].core().len() < self.sequences {
            self.started += 1;
            // A token of no meaning; none shares another's KV.
            let new = NewSequence {
                tokens: vec![1],
                max_new,
                priority: Priority::Interactive,
                deadline: None,
                scope: self.started,
                greedy: true,
            };
            self.pipelines[me].start(new).map_err(|error| wrong(&error))?;
        }
        Ok(())
    }

    fn go_on(&mut self, me: usize) {
        let length = self.length();
        let pipeline = &mut self.pipelines[me];
        let ready: Vec<_> = self.out.ready().collect();
        for id in &ready {
            if pipeline.core().tokens(*id).len() >= length {
                pipeline.end(*id);
            } else {
                pipeline.push(*id, 1);
            }
        }
        if !ready.is_empty() {
            // Its reader lives as long as all this.
            let _ = self.tokens.send(ready);
        }
    }

    fn pass(&mut self, parcel: &Parcel, to: usize) -> Result<(), BackendError> {
        let at = parcel.sub_layer;
        let payload = match parcel.leg {
            _ if parcel.vectors() == 0 => None,
            Leg::Inputs => Some(self.device.inputs(at, &parcel.rows, HERE)?),
            Leg::Results => Some(self.device.parts(at, &parcel.parts, HERE)?),
        };
        let begun = Instant::now();
        let parts = self.pipelines[to].receive(parcel, Moment::default());
        self.sample(PARCEL, parcel.parts.len(), begun.elapsed());
        match (parcel.leg, payload) {
            (_, None) => Ok(()),
            (Leg::Inputs, Some(payload)) => self.device.put_inputs(at, &parcel.rows, payload),
            (Leg::Results, Some(payload)) => self.device.put_parts(at, &parts, payload),
        }
    }
}

/// Least squares, without the slowest hundredth: in these something else ran.
fn line(mut samples: Vec<(f64, f64)>) -> StageTime {
    samples.sort_unstable_by(|a, b| a.1.total_cmp(&b.1));
    samples.truncate((samples.len() * 99).div_ceil(100));
    let count = samples.len().max(1) as f64;
    let mean = |of: fn(&(f64, f64)) -> f64| samples.iter().map(of).sum::<f64>() / count;
    let (entries, us) = (mean(|sample| sample.0), mean(|sample| sample.1));
    let (mut covariance, mut variance) = (0.0, 0.0);
    for sample in &samples {
        covariance += (sample.0 - entries) * (sample.1 - us);
        variance += (sample.0 - entries).powi(2);
    }
    let each_us = if variance > 0.0 { (covariance / variance).max(0.0) } else { 0.0 };
    StageTime { fixed_us: (us - each_us * entries).max(0.0), each_us, ..StageTime::default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_found_whatever_else_ran() {
        let mut samples: Vec<_> = (0..400).map(|i| f64::from(i % 20)).map(|n| (n, 3.0 + 0.5 * n)).collect();
        samples[7].1 = 900.0;
        let StageTime { fixed_us, floor_us, each_us, .. } = line(samples);
        assert!((fixed_us - 3.0).abs() < 1e-9 && (each_us - 0.5).abs() < 1e-9 && floor_us == 0.0);
        assert_eq!(line(Vec::new()), StageTime::default());
    }
}
