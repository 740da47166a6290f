use crate::{PlannedRow, Row, SequenceId};

/// A worker's own rows: which are taken, and by what.
#[derive(Debug)]
pub(super) struct Arena {
    /// The first of them, among those of all devices.
    base: u32,
    states: Vec<Option<RowState>>,
    free: Vec<Row>,
    prefill: usize,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct RowState {
    pub(super) sequence: SequenceId,
    pub(super) token: u32,
    pub(super) position: u32,
    pub(super) logits: bool,
    pub(super) greedy: bool,
    pub(super) prefill: bool,
}

impl Arena {
    pub(super) fn new(rows: std::ops::Range<u32>) -> Self {
        let states = vec![None; rows.len()];
        Self { base: rows.start, states, free: rows.rev().map(Row).collect(), prefill: 0 }
    }

    pub(super) fn len(&self) -> usize {
        self.states.len()
    }

    pub(super) fn free(&self) -> usize {
        self.free.len()
    }

    pub(super) const fn prefill(&self) -> usize {
        self.prefill
    }

    /// The number of a row among these; none: it is another device's.
    pub(super) fn index(&self, row: Row) -> Option<usize> {
        let index = row.0.checked_sub(self.base)? as usize;
        (index < self.states.len()).then_some(index)
    }

    /// None of rows that are free or another device's.
    pub(super) fn state(&self, row: Row) -> Option<&RowState> {
        self.states[self.index(row)?].as_ref()
    }

    pub(super) fn take(&mut self, planned: &PlannedRow, prefill: bool) -> Option<Row> {
        let row = self.free.pop()?;
        let PlannedRow { sequence, token, position, logits, greedy } = *planned;
        let index = self.index(row)?;
        self.states[index] = Some(RowState { sequence, token, position, logits, greedy, prefill });
        self.prefill += usize::from(prefill);
        Some(row)
    }

    pub(super) fn give_back(&mut self, row: Row) {
        let Some(index) = self.index(row) else { return };
        if let Some(state) = self.states[index].take() {
            self.prefill -= usize::from(state.prefill);
            self.free.push(row);
        }
    }

    pub(super) fn rows_of(&self, sequence: SequenceId) -> Vec<Row> {
        self.taken(|state| state.sequence == sequence)
    }

    /// Empties it; returns the rows that were taken.
    pub(super) fn clear(&mut self) -> Vec<Row> {
        let taken = self.taken(|_| true);
        let end = self.base + u32::try_from(self.states.len()).unwrap_or(u32::MAX);
        *self = Self::new(self.base..end);
        taken
    }

    fn taken(&self, which: impl Fn(&RowState) -> bool) -> Vec<Row> {
        let all = (self.base..).zip(&self.states);
        all.filter(|(_, state)| state.as_ref().is_some_and(&which)).map(|(row, _)| Row(row)).collect()
    }
}
