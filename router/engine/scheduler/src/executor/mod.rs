//! Moves rows through the micro-queues of a worker, one queue at a time: [`begin`](Executor::begin) takes the queue that the schedule
//! chooses, [`compute`](Executor::compute) has the backend compute it, [`complete`](Executor::complete) moves its rows on. A simulator leaves
//! the middle out.
//!
//! A model may be spread over devices, each with an executor: then parts go to the devices that host their experts and come back as
//! [`Parcel`]s, which the caller carries.

mod arena;
mod compute;
mod lane;
mod remote;

use std::sync::Arc;

use crate::{
    Backend, BackendError, BlockId, ExpertId, ModelLayout, Moment, PlannedRow, Row, SequenceId, SubLayerId,
    SubLayerKind,
    exchange::Parcel,
    placement::{DeviceId, Placement},
    queues::{ERA, Item, JoinPool, MicroQueues, Order, Upstream},
    schedule::{ENTRY, Pace, QueueState, Queues, RowsOut, Schedule, Stage},
};

use arena::{Arena, RowState};
use compute::Task;
pub use compute::Work;
pub use lane::Lane;
use remote::Site;

/// Where a sequence's KV lies.
pub trait BlockTables {
    fn blocks(&self, sequence: SequenceId) -> &[BlockId];
}

impl BlockTables for crate::Core {
    fn blocks(&self, sequence: SequenceId) -> &[BlockId] {
        Self::blocks(self, sequence)
    }
}

/// Rows that have come out.
#[derive(Debug, Default)]
pub struct Finished {
    /// Those of one sequence in order of position. Their KV is whole.
    pub rows: Vec<(SequenceId, u32)>,
    /// Sequences whose logits came.
    pub logits_of: Vec<SequenceId>,
    /// `[logits_of.len() * vocabulary]`.
    pub logits: Vec<f32>,
    /// Sequences of which the backend chose the next token itself; none: no logit is a number.
    pub chosen: Vec<(SequenceId, Option<u32>)>,
}

impl Finished {
    pub fn clear(&mut self) {
        self.rows.clear();
        self.logits_of.clear();
        self.logits.clear();
        self.chosen.clear();
    }

    /// How many came out.
    #[must_use]
    pub fn rows_out(&self) -> RowsOut {
        let tokens = self.logits_of.len() + self.chosen.len();
        RowsOut { tokens: tokens as u64, prompt: self.rows.len().saturating_sub(tokens) as u64 }
    }

    /// Sequences that are to go on or to end: those whose logits came and those whose token did.
    pub fn ready(&self) -> impl Iterator<Item = SequenceId> {
        self.logits_of.iter().copied().chain(self.chosen.iter().map(|(id, _)| *id))
    }

    /// Megabytes of a large vocabulary: moved where nothing came before.
    fn take_logits(&mut self, logits: &mut Vec<f32>) {
        if self.logits.is_empty() {
            std::mem::swap(&mut self.logits, logits);
        } else {
            self.logits.append(logits);
        }
    }

    /// Each sequence whose logits came, with them, one number per vocabulary entry.
    pub fn each_mut(&mut self) -> impl Iterator<Item = (SequenceId, &mut [f32])> {
        let vocabulary = (self.logits.len() / self.logits_of.len().max(1)).max(1);
        self.logits_of.iter().copied().zip(self.logits.chunks_exact_mut(vocabulary))
    }
}

/// The rows in flight of one worker. Rows of several ticks may be in flight at once, if the schedule admits them.
#[derive(Debug)]
pub struct Executor {
    kinds: Vec<SubLayerKind>,
    /// After this attention a row without logits has done all that it is for: its KV is written.
    last_attention: Option<SubLayerId>,
    schedule: Box<dyn Schedule>,
    arena: Arena,
    queues: MicroQueues,
    order: Order,
    join: JoinPool,
    upstream: Upstream,
    site: Site,
    task: Task,
}

impl Executor {
    /// Of a worker that has all of the model.
    #[must_use]
    pub fn new(layout: &ModelLayout, schedule: Box<dyn Schedule>) -> Self {
        let placement = Placement::alone(layout);
        Self::on(layout, &Arc::new(placement), DeviceId(0), Lane::ONLY, schedule)
    }

    /// A lane of one of many workers.
    #[must_use]
    pub fn on(
        layout: &ModelLayout,
        placement: &Arc<Placement>,
        me: DeviceId,
        lane: Lane,
        schedule: Box<dyn Schedule>,
    ) -> Self {
        let kinds = layout.sub_layers.clone();
        let site = Site::new(layout, Arc::clone(placement), me, lane);
        let arena = Arena::new(site.own_rows());
        Self {
            last_attention: kinds.iter().rposition(|kind| *kind == SubLayerKind::Attention),
            kinds,
            schedule,
            queues: MicroQueues::new(layout, placement, me),
            order: Order::new(layout),
            join: JoinPool::new(arena.len()),
            upstream: Upstream::new(layout, placement, me, arena.len()),
            arena,
            site,
            task: Task::default(),
        }
    }

    /// Rows that may enter now.
    #[must_use]
    pub fn free_rows(&self) -> usize {
        let admits = match self.barrier() {
            Some(barrier) => barrier.is_open() && self.in_flight() == 0,
            None => self.schedule.admits(self.in_flight()),
        };
        if admits { self.arena.free() } else { 0 }
    }

    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.arena.len() - self.arena.free()
    }

    /// Of rows in flight, those of prompts.
    #[must_use]
    pub const fn prefill_in_flight(&self) -> usize {
        self.arena.prefill()
    }

    /// Depth of each micro-queue that is not empty, in rows: a part for an expert is a share of one.
    pub fn depths(&self) -> impl Iterator<Item = f64> {
        self.queues.depths()
    }

    /// What its micro-queues hold, in the order in which a token passes them.
    pub fn stages(&self) -> impl Iterator<Item = Stage> {
        self.queues.states().iter().map(|queue| queue.stage)
    }

    /// Its micro-queues that are not empty, in any order: it may have thousands that are.
    pub fn waiting(&self) -> impl Iterator<Item = &QueueState> {
        self.queues.filled().iter().map(|queue| &self.queues.states()[*queue])
    }

    /// Of each part that waits for an expert here, its sub-layer and its expert.
    pub fn waiting_parts(&self) -> impl Iterator<Item = (SubLayerId, ExpertId)> {
        self.queues.waiting_parts()
    }

    /// When the entry came that has waited longest.
    #[must_use]
    pub fn oldest(&self) -> Option<Moment> {
        self.queues.oldest()
    }

    /// Lets rows in, at most [`Self::free_rows`]; those of a sequence in order of position, after its rows in flight. The first
    /// `decode_rows` are of sequences that generate.
    pub fn inject(&mut self, rows: &[PlannedRow], decode_rows: usize, now: Moment) {
        debug_assert!(rows.len() <= self.arena.free(), "more rows than there is room for");
        if !rows.is_empty() {
            self.begin_tick();
        }
        for (i, planned) in rows.iter().enumerate() {
            let Some(row) = self.arena.take(planned, i >= decode_rows) else { return };
            self.order.enter(planned.sequence, planned.position);
            if let Some(index) = self.arena.index(row) {
                self.upstream.enter(index, planned.logits, self.schedule.gathers());
            }
            self.queues.push(self.queues.embed(), Item::row(row, now));
        }
    }

    /// Drops a sequence's rows, wherever they are.
    pub fn abort(&mut self, sequence: SequenceId) {
        let Self { arena, queues, site, upstream, .. } = self;
        queues.retain(|row| arena.state(row).is_none_or(|state| state.sequence != sequence));
        for row in arena.rows_of(sequence) {
            if let Some(index) = arena.index(row) {
                upstream.leave(index);
            }
            arena.give_back(row);
            site.visits.leave(row);
        }
        self.order.forget(sequence);
    }

    /// Drops all rows, after a failure. Returns whose they were.
    pub fn clear(&mut self) -> Vec<SequenceId> {
        let sequences = self.order.sequences();
        self.order.clear();
        self.upstream.clear();
        self.queues.retain(|_| false);
        for row in self.arena.clear() {
            self.site.visits.leave(row);
        }
        sequences
    }

    /// Computes the queue that the schedule chooses, for all its rows, and moves them on. False if there was none.
    /// What comes out is added to `finished`.
    ///
    /// # Errors
    /// The backend's. The rows in flight are lost then: [`Self::clear`].
    pub fn turn<B: Backend + ?Sized>(
        &mut self,
        backend: &mut B,
        tables: &impl BlockTables,
        now: Moment,
        finished: &mut Finished,
        outbox: &mut Vec<Parcel>,
    ) -> Result<bool, BackendError> {
        if self.begin(now).is_none() {
            return Ok(false);
        }
        self.compute(backend, tables)?;
        self.complete(now, finished, outbox);
        Ok(true)
    }

    /// Takes all that waits in the queue that the schedule chooses; none: there is nothing to compute, or it waits for more.
    pub fn begin(&mut self, now: Moment) -> Option<Work<'_>> {
        let Self { schedule, queues, arena, site, task, kinds, upstream, .. } = self;
        loop {
            if schedule.foresees() {
                queues.foresee(upstream);
            }
            let fuses = schedule.fuses();
            let view = Queues {
                queues: queues.states(),
                filled: queues.filled(),
                now,
                in_flight: arena.len() - arena.free(),
                barrier: site.barrier.as_ref().filter(|barrier| fuses && !barrier.is_settling()),
            };
            let queue = schedule.next(&view)?;
            let state = queues.states()[queue];
            let stage = state.stage;
            task.items.clear();
            queues.drain(queue, schedule.takes(&state).max(1), &mut task.items);
            if let Stage::Experts(_) = stage {
                // Of sequences that have ended meanwhile.
                task.items.retain(|item| site.visits.of(item.part.row) == item.visit);
                task.items.sort_by_key(|item| item.part.expert);
                if task.items.is_empty() {
                    continue;
                }
            }
            if stage == ENTRY {
                upstream.begin(task.items.iter().filter_map(|item| arena.index(item.part.row)));
            }
            task.begin(stage, kinds);
            break;
        }
        Some(self.work())
    }

    /// With nothing begun although there are entries: when to try again if nothing comes before.
    #[must_use]
    pub fn asks_again(&self) -> Option<Moment> {
        self.schedule.asks_again()
    }

    /// Moves on what was computed: to the next queues, to other devices (`outbox`), or out (added to `finished`).
    pub fn complete(&mut self, now: Moment, finished: &mut Finished, outbox: &mut Vec<Parcel>) {
        let mut task = std::mem::take(&mut self.task);
        match task.stage {
            None => {}
            Some(Stage::Embed) if task.stepped => self.stepped(&mut task, finished),
            Some(Stage::Embed) => self.advance(&task.rows, 0, now, finished),
            Some(Stage::SubLayer(at)) => match self.kinds[at] {
                SubLayerKind::Experts { top_k, .. } => self.dispatch(at, top_k, &task, now, outbox),
                _ => self.advance(&task.rows, at + 1, now, finished),
            },
            Some(Stage::Experts(sub_layer)) => self.results(sub_layer, &task, now, finished, outbox),
            Some(Stage::Head) if task.stepped => self.chosen(&task, finished),
            Some(Stage::Head) => {
                finished.take_logits(&mut task.logits);
                for row in &task.rows {
                    if let Some(state) = self.arena.state(*row) {
                        finished.logits_of.push(state.sequence);
                    }
                    self.release(*row, finished);
                }
            }
        }
        task.stage = None;
        self.task = task;
    }

    /// All workers change their pace, for the `change`-th time, the same for all.
    pub fn set_pace(&mut self, pace: Pace, change: u32) {
        if !pace.is_free()
            && let Some(barrier) = &mut self.site.barrier
        {
            barrier.settle(u64::from(change) << ERA);
        }
        self.schedule.set_pace(pace);
    }

    /// Rows go on to the sub-layer `to`, or to the head behind the last, or out.
    fn advance(&mut self, rows: &[Row], to: SubLayerId, now: Moment, finished: &mut Finished) {
        let written = self.last_attention.is_none_or(|last| to > last);
        for row in rows {
            let Some(RowState { sequence, position, logits, .. }) = self.arena.state(*row).copied() else {
                continue;
            };
            if written && !logits {
                self.release(*row, finished);
            } else if to == self.kinds.len() {
                self.queues.push(self.queues.head(), Item::row(*row, now));
            } else {
                let queues = &mut self.queues;
                let Some(queue) = queues.sub_layer(to) else { continue };
                self.order
                    .arrive(to, sequence, position, *row, |row| queues.push(queue, Item::row(row, now)));
            }
        }
    }

    fn release(&mut self, row: Row, finished: &mut Finished) {
        let Some(RowState { sequence, position, .. }) = self.arena.state(row).copied() else { return };
        finished.rows.push((sequence, position));
        self.order.leave(sequence);
        if let Some(index) = self.arena.index(row) {
            self.upstream.leave(index);
        }
        self.arena.give_back(row);
        self.site.visits.leave(row);
    }
}
