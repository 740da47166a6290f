//! Moves rows through the micro-queues of a worker and has the backend compute one queue at a time.

use crate::{
    AttentionRow, Backend, BackendError, BlockId, ExpertId, Head, Heads, ModelLayout, Moment, PartWork,
    PlannedRow, Row, SequenceId, StepRow, SubLayerId, SubLayerKind,
    queues::{Item, JoinPool, MicroQueues, Order},
    schedule::{Queues, Schedule, Stage},
};

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

    /// Sequences that are to go on or to end: those whose logits came and those whose token did.
    pub fn ready(&self) -> impl Iterator<Item = SequenceId> {
        self.logits_of.iter().copied().chain(self.chosen.iter().map(|(id, _)| *id))
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
    scratch: Scratch,
}

#[derive(Debug)]
struct Arena {
    states: Vec<RowState>,
    free: Vec<Row>,
}

#[derive(Debug, Clone, Copy)]
struct RowState {
    sequence: SequenceId,
    token: u32,
    position: u32,
    logits: bool,
    greedy: bool,
}

#[derive(Debug, Default)]
struct Scratch {
    items: Vec<Item>,
    rows: Vec<Row>,
    tokens: Vec<u32>,
    experts: Vec<ExpertId>,
    parts: Vec<PartWork>,
    heads: Heads,
}

impl Arena {
    fn state(&self, row: Row) -> &RowState {
        &self.states[row.0 as usize]
    }
}

impl Executor {
    /// `experts_per_group`: how many experts of a gated sub-layer share a queue; at least 1, taken for 1 if 0.
    #[must_use]
    pub fn new(layout: &ModelLayout, experts_per_group: u16, schedule: Box<dyn Schedule>) -> Self {
        let kinds = layout.sub_layers.clone();
        let none = RowState { sequence: SequenceId(0), token: 0, position: 0, logits: false, greedy: false };
        let rows = u32::try_from(layout.rows).unwrap_or(u32::MAX);
        Self {
            last_attention: kinds.iter().rposition(|kind| *kind == SubLayerKind::Attention),
            kinds,
            schedule,
            arena: Arena { states: vec![none; layout.rows], free: (0..rows).rev().map(Row).collect() },
            queues: MicroQueues::new(layout, experts_per_group.max(1)),
            order: Order::new(layout),
            join: JoinPool::new(layout.rows),
            scratch: Scratch::default(),
        }
    }

    /// Rows that may enter now.
    #[must_use]
    pub fn free_rows(&self) -> usize {
        if self.schedule.admits(self.in_flight()) { self.arena.free.len() } else { 0 }
    }

    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.arena.states.len() - self.arena.free.len()
    }

    /// Mean entries of the micro-queues that are not empty.
    #[must_use]
    pub fn mean_depth(&self) -> f64 {
        self.queues.mean_depth()
    }

    /// Lets rows in, at most [`Self::free_rows`]; those of a sequence in order of position, after its rows in flight.
    pub fn inject(&mut self, rows: &[PlannedRow], now: Moment) {
        debug_assert!(rows.len() <= self.arena.free.len(), "more rows than there is room for");
        for planned in rows {
            let Some(row) = self.arena.free.pop() else { return };
            let PlannedRow { sequence, token, position, logits, greedy } = *planned;
            self.arena.states[row.0 as usize] = RowState { sequence, token, position, logits, greedy };
            self.order.enter(sequence, position);
            self.queues.push(self.queues.embed(), Item::row(row, now));
        }
    }

    /// Drops a sequence's rows, wherever they are.
    pub fn abort(&mut self, sequence: SequenceId) {
        let arena = &mut self.arena;
        let taken = {
            let mut taken = vec![true; arena.states.len()];
            arena.free.iter().for_each(|row| taken[row.0 as usize] = false);
            taken
        };
        let of = |row: Row, states: &[RowState]| {
            taken[row.0 as usize] && states[row.0 as usize].sequence == sequence
        };
        self.queues.retain(|row| !of(row, &arena.states));
        let rows = (0..u32::try_from(arena.states.len()).unwrap_or(u32::MAX)).map(Row);
        let dropped: Vec<Row> = rows.filter(|row| of(*row, &arena.states)).collect();
        arena.free.extend(dropped);
        self.order.forget(sequence);
    }

    /// Drops all rows, after a failure. Returns whose they were.
    pub fn clear(&mut self) -> Vec<SequenceId> {
        let sequences = self.order.sequences();
        self.order.clear();
        self.queues.retain(|_| false);
        let rows = u32::try_from(self.arena.states.len()).unwrap_or(u32::MAX);
        self.arena.free = (0..rows).rev().map(Row).collect();
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
    ) -> Result<bool, BackendError> {
        let queues = Queues { queues: self.queues.states(), now };
        let Some(queue) = self.schedule.next(&queues) else { return Ok(false) };
        let stage = self.queues.states()[queue].stage;
        let mut scratch = std::mem::take(&mut self.scratch);
        self.queues.drain(queue, &mut scratch.items);
        scratch.rows.clear();
        scratch.rows.extend(scratch.items.iter().map(|item| item.part.row));
        let outcome = match stage {
            Stage::Embed => match self.step(backend, tables, &mut scratch, finished) {
                Ok(true) => Ok(()),
                Ok(false) => self.embed(backend, &mut scratch, now, finished),
                Err(error) => Err(error),
            },
            Stage::SubLayer(at) => self.sub_layer(backend, tables, at, &mut scratch, now, finished),
            Stage::Experts { sub_layer, .. } => self.experts(backend, sub_layer, &mut scratch, now, finished),
            Stage::Head => self.head(backend, &scratch, finished),
        };
        self.scratch = scratch;
        outcome.map(|()| true)
    }

    /// All of the model at once, if schedule and backend do that and no other row is under way.
    fn step<B: Backend + ?Sized>(
        &mut self,
        backend: &mut B,
        tables: &impl BlockTables,
        scratch: &mut Scratch,
        finished: &mut Finished,
    ) -> Result<bool, BackendError> {
        if !self.schedule.fuses() || scratch.rows.len() != self.in_flight() {
            return Ok(false);
        }
        let row = |row: &Row| {
            let RowState { sequence, token, position, logits, greedy } = *self.arena.state(*row);
            let head = match (logits, greedy) {
                (false, _) => Head::Nothing,
                (true, true) => Head::Greedy,
                (true, false) => Head::Logits,
            };
            StepRow { token, position, blocks: tables.blocks(sequence), head }
        };
        let rows: Vec<_> = scratch.rows.iter().map(row).collect();
        let heads = &mut scratch.heads;
        heads.greedy.clear();
        heads.logits.clear();
        if !backend.step(&rows, heads)? {
            return Ok(false);
        }
        let wanted = rows.iter().filter(|row| row.head == Head::Greedy).count();
        if heads.greedy.len() != wanted {
            return Err(BackendError(format!("a step chose {} tokens, not {wanted}", heads.greedy.len())));
        }
        let heads_of: Vec<Head> = rows.iter().map(|row| row.head).collect();
        drop(rows);
        let mut greedy = heads.greedy.iter();
        for (row, head) in scratch.rows.iter().zip(heads_of) {
            let sequence = self.arena.state(*row).sequence;
            match head {
                Head::Nothing => {}
                Head::Greedy => finished.chosen.extend(greedy.next().map(|token| (sequence, *token))),
                Head::Logits => finished.logits_of.push(sequence),
            }
            self.release(*row, finished);
        }
        finished.logits.append(&mut heads.logits);
        Ok(true)
    }

    fn embed<B: Backend + ?Sized>(
        &mut self,
        backend: &mut B,
        scratch: &mut Scratch,
        now: Moment,
        finished: &mut Finished,
    ) -> Result<(), BackendError> {
        scratch.tokens.clear();
        scratch.tokens.extend(scratch.rows.iter().map(|row| self.arena.state(*row).token));
        backend.embed(&scratch.rows, &scratch.tokens)?;
        self.advance(&scratch.rows, 0, now, finished);
        Ok(())
    }

    fn sub_layer<B: Backend + ?Sized>(
        &mut self,
        backend: &mut B,
        tables: &impl BlockTables,
        at: SubLayerId,
        scratch: &mut Scratch,
        now: Moment,
        finished: &mut Finished,
    ) -> Result<(), BackendError> {
        let Scratch { rows, experts, .. } = scratch;
        match self.kinds[at] {
            SubLayerKind::Attention => {
                let row = |row: &Row| {
                    let RowState { sequence, position, .. } = *self.arena.state(*row);
                    AttentionRow { row: *row, position, blocks: tables.blocks(sequence) }
                };
                backend.attention(at, &rows.iter().map(row).collect::<Vec<_>>())?;
            }
            SubLayerKind::DenseFeedForward => backend.feed_forward(at, rows)?,
            SubLayerKind::Experts { top_k, .. } => {
                experts.clear();
                backend.gate(at, rows, experts)?;
                let count = usize::from(top_k);
                if experts.len() != rows.len() * count {
                    let (rows, experts) = (rows.len(), experts.len());
                    let message = format!("the gate chose {experts} experts for {rows} rows of {count} each");
                    return Err(BackendError(message));
                }
                for (row, chosen) in rows.iter().zip(experts.chunks_exact(count)) {
                    self.join.expect(*row, top_k);
                    for (slot, expert) in (0..top_k).zip(chosen) {
                        let part = PartWork { row: *row, slot, expert: *expert };
                        self.queues.push(self.queues.experts(at, *expert), Item { part, since: now });
                    }
                }
                return Ok(());
            }
        }
        self.advance(rows, at + 1, now, finished);
        Ok(())
    }

    fn experts<B: Backend + ?Sized>(
        &mut self,
        backend: &mut B,
        at: SubLayerId,
        scratch: &mut Scratch,
        now: Moment,
        finished: &mut Finished,
    ) -> Result<(), BackendError> {
        let Scratch { items, rows, parts, .. } = scratch;
        parts.clear();
        parts.extend(items.iter().map(|item| item.part));
        parts.sort_by_key(|part| part.expert);
        backend.experts(at, parts)?;
        rows.clear();
        rows.extend(items.iter().map(|item| item.part.row).filter(|row| self.join.arrived(*row)));
        if !rows.is_empty() {
            backend.join(at, rows)?;
            self.advance(rows, at + 1, now, finished);
        }
        Ok(())
    }

    fn head<B: Backend + ?Sized>(
        &mut self,
        backend: &mut B,
        scratch: &Scratch,
        finished: &mut Finished,
    ) -> Result<(), BackendError> {
        if finished.logits_of.is_empty() {
            backend.logits(&scratch.rows, &mut finished.logits)?;
        } else {
            let mut logits = Vec::new();
            backend.logits(&scratch.rows, &mut logits)?;
            finished.logits.extend_from_slice(&logits);
        }
        for row in &scratch.rows {
            finished.logits_of.push(self.arena.state(*row).sequence);
            self.release(*row, finished);
        }
        Ok(())
    }

    /// Rows go on to the sub-layer `to`, or to the head behind the last, or out.
    fn advance(&mut self, rows: &[Row], to: SubLayerId, now: Moment, finished: &mut Finished) {
        let written = self.last_attention.is_none_or(|last| to > last);
        for row in rows {
            let RowState { sequence, position, logits, .. } = *self.arena.state(*row);
            if written && !logits {
                self.release(*row, finished);
            } else if to == self.kinds.len() {
                self.queues.push(self.queues.head(), Item::row(*row, now));
            } else {
                let queues = &mut self.queues;
                let queue = queues.sub_layer(to);
                self.order
                    .arrive(to, sequence, position, *row, |row| queues.push(queue, Item::row(row, now)));
            }
        }
    }

    fn release(&mut self, row: Row, finished: &mut Finished) {
        let RowState { sequence, position, .. } = *self.arena.state(row);
        finished.rows.push((sequence, position));
        self.order.leave(sequence);
        self.arena.free.push(row);
    }
}
