//! Core and executor together: what a worker drives.

use thiserror::Error;

use crate::{
    Backend, BackendError, ConfigError, Core, CoreConfig, Executor, Finished, Lockstep, ModelLayout, Moment,
    NewSequence, Plan, Schedule, SequenceId, StartError,
};

/// The computation of a tier's sequences, from their start to their logits.
///
/// A worker's loop: [`start`](Self::start) what waits while [`core`](Self::core) has room; [`turn`](Self::turn); for each
/// sequence with logits draw a token and [`push`](Self::push) it or [`end`](Self::end) the sequence; end what was
/// cancelled or is late.
#[derive(Debug)]
pub struct Pipeline {
    core: Core,
    executor: Executor,
    plan: Plan,
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
        Self::with_schedule(config, layout, u16::MAX, Box::new(Lockstep))
    }

    /// # Errors
    /// If the bounds contradict each other or the layout.
    pub fn with_schedule(
        config: CoreConfig,
        layout: &ModelLayout,
        experts_per_group: u16,
        schedule: Box<dyn Schedule>,
    ) -> Result<Self, ConfigError> {
        Ok(Self {
            core: Core::new(config, layout)?,
            executor: Executor::new(layout, experts_per_group, schedule),
            plan: Plan::default(),
        })
    }

    #[must_use]
    pub fn core(&self) -> &Core {
        &self.core
    }

    #[must_use]
    pub fn executor(&self) -> &Executor {
        &self.executor
    }

    /// # Errors
    /// If it could never be computed.
    pub fn start(&mut self, new: NewSequence) -> Result<SequenceId, StartError> {
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
        let mut turn = Turn::default();
        let room = self.executor.free_rows();
        if room > 0 && !self.core.is_empty() {
            self.core.plan(room, &mut self.plan);
            for id in &self.plan.preempted {
                self.executor.abort(*id);
            }
            self.executor.inject(&self.plan.rows, now);
            turn.decode_rows = self.plan.decode_rows;
            turn.prefill_rows = self.plan.rows.len() - turn.decode_rows;
        }
        match self.executor.turn(backend, &self.core, now, out) {
            Ok(computed) => turn.computed = computed,
            Err(error) => return Err(Broken { error, ended: self.fail() }),
        }
        for (id, position) in &out.rows {
            self.core.computed(*id, *position);
        }
        Ok(turn)
    }

    /// The sequence goes on with this token.
    pub fn push(&mut self, id: SequenceId, token: u32) {
        self.core.push(id, token);
    }

    /// Ends a sequence at any time; its KV is free at once.
    pub fn end(&mut self, id: SequenceId) {
        if self.executor.in_flight() > 0 {
            self.executor.abort(id);
        }
        self.core.end(id);
    }

    /// Ends the sequences with rows in flight, after a failure or a panic of the backend: what they hold is unknown.
    pub fn fail(&mut self) -> Vec<SequenceId> {
        let ended = self.executor.clear();
        for id in &ended {
            self.core.end(*id);
        }
        ended
    }
}
