//! Core and executor together: what a worker drives.

mod devices;

use thiserror::Error;

use crate::{
    Backend, BackendError, ConfigError, Core, CoreConfig, Executor, Finished, Lockstep, ModelLayout, Moment,
    NewSequence, Pace, Parcel, Plan, Schedule, SequenceId, StartError, core::Room,
};

/// The computation of a tier's sequences, from their start to their logits.
///
/// A worker's loop: [`start`](Self::start) what waits while [`core`](Self::core) has room; [`turn`](Self::turn); for each
/// sequence with logits draw a token and [`push`](Self::push) it or [`end`](Self::end) the sequence; end what was
/// cancelled or is late.
#[derive(Debug)]
pub struct Pipeline {
    core: Core,
    /// Micro-batches that are in flight at once; one, but for ping-pong.
    lanes: Vec<Executor>,
    /// The lane that computes, or did last.
    busy: usize,
    pace: Pace,
    /// Lanes beside the first have had rows in this ping-pong.
    alternates: bool,
    plan: Plan,
    /// Something changed since the last plan, so that another may hold more.
    stale: bool,
    outbox: Vec<Parcel>,
}

#[cfg(test)]
pub(crate) struct Half {
    pub(crate) rows: usize,
    pub(crate) is_between_ticks: bool,
    pub(crate) passed: Option<usize>,
}

/// What a turn has done.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Turn {
    /// Rows that entered at its beginning: of those who generate, and of prompts.
    pub decode_rows: usize,
    pub prefill_rows: usize,
    /// False: there was nothing to compute.
    pub computed: bool,
}

/// The backend failed; the sequences that had rows in flight are ended. The others go on.
#[derive(Debug, Error)]
#[error("{error}")]
pub struct Broken {
    pub error: BackendError,
    pub ended: Vec<SequenceId>,
}

impl Pipeline {
    /// With one queue for all experts of a sub-layer, in lockstep.
    ///
    /// # Errors
    /// If the bounds contradict each other or the layout.
    pub fn new(config: CoreConfig, layout: &ModelLayout) -> Result<Self, ConfigError> {
        Self::with_schedule(config, layout, Box::new(Lockstep))
    }

    /// # Errors
    /// If the bounds contradict each other or the layout.
    pub fn with_schedule(
        config: CoreConfig,
        layout: &ModelLayout,
        schedule: Box<dyn Schedule>,
    ) -> Result<Self, ConfigError> {
        Self::with_lanes(config, layout, vec![Executor::new(layout, schedule)], Pace::Lockstep)
    }

    /// Of one of many devices ([`Executor::lanes`]).
    ///
    /// # Errors
    /// If the bounds contradict each other or the layout.
    pub fn with_lanes(
        config: CoreConfig,
        layout: &ModelLayout,
        lanes: Vec<Executor>,
        pace: Pace,
    ) -> Result<Self, ConfigError> {
        Ok(Self {
            core: Core::new(config, layout)?,
            lanes,
            busy: 0,
            pace,
            alternates: false,
            plan: Plan::default(),
            stale: true,
            outbox: Vec::new(),
        })
    }

    /// Other executors, with nothing in flight: all sequences end, and are returned. What was computed of them stays findable.
    pub fn replace_lanes(&mut self, lanes: Vec<Executor>, pace: Pace) -> Vec<SequenceId> {
        let ended: Vec<_> = self.core.ids().collect();
        (self.lanes, self.busy, self.pace, self.alternates) = (lanes, 0, pace, false);
        for id in &ended {
            self.core.end(*id);
        }
        ended
    }

    #[must_use]
    pub fn core(&self) -> &Core {
        &self.core
    }

    /// The lane that computes, or did last: the only one of a worker that is alone.
    #[must_use]
    pub fn executor(&self) -> &Executor {
        &self.lanes[self.busy]
    }

    /// Rows in flight, in all lanes.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.lanes.iter().map(Executor::in_flight).sum()
    }

    /// Mean depth of the micro-queues that are not empty, in all lanes, in rows: a part for an expert is a share of one.
    #[must_use]
    pub fn mean_depth(&self) -> f64 {
        let (sum, count) = self
            .lanes
            .iter()
            .flat_map(Executor::depths)
            .fold((0.0, 0), |(sum, count), depth| (sum + depth, count + 1));
        sum / f64::from(count.max(1))
    }

    /// # Errors
    /// If it could never be computed.
    pub fn start(&mut self, new: NewSequence) -> Result<SequenceId, StartError> {
        self.stale = true;
        self.core.start(new)
    }

    /// Lets the rows of a next tick in, if the schedule does, and computes one micro-queue. What comes out replaces what is in
    /// `out`; the sequences whose logits are in it must be pushed to or ended before the next turn.
    ///
    /// # Errors
    /// The backend's.
    pub fn turn<B: Backend + ?Sized>(
        &mut self,
        backend: &mut B,
        now: Moment,
        out: &mut Finished,
    ) -> Result<Turn, Broken> {
        out.clear();
        let mut turn = self.admit(now);
        match self.lanes[self.busy].turn(backend, &self.core, now, out, &mut self.outbox) {
            Ok(computed) => turn.computed = computed,
            Err(error) => return Err(Broken { error, ended: self.fail() }),
        }
        debug_assert!(self.outbox.is_empty(), "this worker is alone");
        self.count(out);
        Ok(turn)
    }

    /// Lets the rows of a next tick in, if the schedule does. A turn in pieces, for devices that share a model, is this,
    /// [`begin`](Self::begin), [`compute`](Self::compute) and [`complete`](Self::complete).
    pub fn admit(&mut self, now: Moment) -> Turn {
        let mut turn = Turn::default();
        let used = if self.pace == Pace::PingPong { self.lanes.len() } else { 1 };
        for lane in 0..self.lanes.len() {
            self.lanes[lane].finish_tick();
            if lane < used && !self.waits(lane) {
                self.fill(lane, used, now, &mut turn);
            }
            self.lanes[lane].pass();
        }
        turn
    }

    /// In ping-pong a lane waits with its next tick while another has only just begun its own, and at first until the other is just so far
    /// ([`Placement::stagger`](crate::Placement::stagger)): farther apart they may meet as well. Not if another device has begun the tick.
    fn waits(&self, lane: usize) -> bool {
        let stagger = self.lanes[lane].stagger();
        if self.pace != Pace::PingPong || stagger == 0 || !self.lanes[lane].is_between_ticks() {
            return false;
        }
        let too_far = if lane == 0 || self.alternates { usize::MAX } else { stagger + 1 };
        let others = self.lanes.iter().enumerate().filter(|(other, _)| *other != lane);
        others.filter_map(|(_, other)| other.passed()).any(|passed| passed < stagger || passed > too_far)
    }

    /// Of each lane, for tests of when they begin.
    #[cfg(test)]
    pub(crate) fn halves(&self) -> Vec<Half> {
        let half = |lane: &Executor| Half {
            rows: lane.in_flight(),
            is_between_ticks: lane.is_between_ticks(),
            passed: lane.passed(),
        };
        self.lanes.iter().map(half).collect()
    }

    /// Lets rows into a lane, one of so many that are used.
    fn fill(&mut self, lane: usize, used: usize, now: Moment, turn: &mut Turn) {
        // Without a barrier this is asked before every call: most often nothing has changed. Who loses its KV leaves room that the
        // plan could not know of, so that one without a row is made once more.
        for _ in 0..2 {
            let here = self.lanes[lane].in_flight();
            let worthwhile = self.stale || here == 0;
            let rows = self.lanes[lane].free_rows();
            if rows == 0 || !worthwhile || self.core.is_empty() {
                break;
            }
            let prefilling = self.lanes.iter().map(Executor::prefill_in_flight).sum();
            let elsewhere = self.in_flight() > here;
            self.core.plan(Room { rows, prefilling, lanes: used, elsewhere }, &mut self.plan);
            for id in &self.plan.preempted {
                self.lanes.iter_mut().for_each(|lane| lane.abort(*id));
            }
            self.lanes[lane].inject(&self.plan.rows, self.plan.decode_rows, now);
            self.alternates |= lane > 0 && !self.plan.rows.is_empty();
            turn.decode_rows += self.plan.decode_rows;
            turn.prefill_rows += self.plan.rows.len() - self.plan.decode_rows;
            self.stale = !self.plan.preempted.is_empty();
            if !self.stale || !self.plan.rows.is_empty() {
                break;
            }
        }
    }

    /// # Errors
    /// The backend's.
    pub fn compute<B: Backend + ?Sized>(&mut self, backend: &mut B) -> Result<(), BackendError> {
        self.lanes[self.busy].compute(backend, &self.core)
    }

    /// Moves on what was computed; see [`Executor::complete`]. `out` as in [`turn`](Self::turn).
    pub fn complete(&mut self, now: Moment, out: &mut Finished, outbox: &mut Vec<Parcel>) {
        out.clear();
        self.lanes[self.busy].complete(now, out, outbox);
        self.count(out);
    }

    fn count(&mut self, out: &Finished) {
        self.stale |= !out.rows.is_empty();
        for (id, position) in &out.rows {
            self.core.computed(*id, *position);
        }
    }

    /// The sequence goes on with this token.
    pub fn push(&mut self, id: SequenceId, token: u32) {
        self.stale = true;
        self.core.push(id, token);
    }

    /// Ends a sequence at any time; its KV is free at once.
    pub fn end(&mut self, id: SequenceId) {
        for lane in self.lanes.iter_mut().filter(|lane| lane.in_flight() > 0) {
            lane.abort(id);
        }
        self.stale = true;
        self.core.end(id);
    }

    /// Ends the sequences with rows in flight, after a failure or a panic of the backend: what they hold is unknown.
    pub fn fail(&mut self) -> Vec<SequenceId> {
        let ended: Vec<_> = self.lanes.iter_mut().flat_map(Executor::clear).collect();
        self.stale = true;
        for id in &ended {
            self.core.end(*id);
        }
        ended
    }
}
