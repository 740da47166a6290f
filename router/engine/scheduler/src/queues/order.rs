use std::collections::HashMap;

use crate::{ModelLayout, Row, SequenceId, SubLayerId, SubLayerKind};

/// Keeps rows of one sequence in order of position at every attention: a position attends to the KV of all before it, so
/// these must be appended first or in the same call. A row that overtook another, because its experts were ready sooner,
/// is held until the other has come.
#[derive(Debug)]
pub(crate) struct Order {
    /// Per sub-layer its number among the attentions.
    attention: Vec<Option<usize>>,
    attentions: usize,
    sequences: HashMap<SequenceId, Progress>,
}

#[derive(Debug)]
struct Progress {
    in_flight: usize,
    /// Per attention the position that may come next.
    next: Vec<u32>,
    held: Vec<(usize, u32, Row)>,
}

impl Order {
    pub(crate) fn new(layout: &ModelLayout) -> Self {
        let mut attentions = 0;
        let number = |kind: &SubLayerKind| {
            (*kind == SubLayerKind::Attention).then(|| {
                attentions += 1;
                attentions - 1
            })
        };
        let attention = layout.sub_layers.iter().map(number).collect();
        Self { attention, attentions, sequences: HashMap::new() }
    }

    /// A row enters. Positions of one sequence follow each other without a gap.
    pub(crate) fn enter(&mut self, sequence: SequenceId, position: u32) {
        let attentions = self.attentions;
        let progress = self.sequences.entry(sequence).or_insert_with(|| Progress {
            in_flight: 0,
            next: vec![position; attentions],
            held: Vec::new(),
        });
        progress.in_flight += 1;
    }

    /// A row has left.
    pub(crate) fn leave(&mut self, sequence: SequenceId) {
        if let Some(progress) = self.sequences.get_mut(&sequence) {
            progress.in_flight -= 1;
            if progress.in_flight == 0 {
                self.sequences.remove(&sequence);
            }
        }
    }

    /// A row comes to an attention: hands those to `ready`, in order, that may now be queued there.
    pub(crate) fn arrive(
        &mut self,
        sub_layer: SubLayerId,
        sequence: SequenceId,
        position: u32,
        row: Row,
        mut ready: impl FnMut(Row),
    ) {
        let Some(number) = self.attention[sub_layer] else { return ready(row) };
        let Some(progress) = self.sequences.get_mut(&sequence) else { return };
        if position != progress.next[number] {
            progress.held.push((number, position, row));
            return;
        }
        ready(row);
        progress.next[number] += 1;
        let next = |progress: &Progress| {
            let wanted = progress.next[number];
            progress.held.iter().position(|(at, position, _)| (*at, *position) == (number, wanted))
        };
        while let Some(at) = next(progress) {
            ready(progress.held.swap_remove(at).2);
            progress.next[number] += 1;
        }
    }

    pub(crate) fn forget(&mut self, sequence: SequenceId) {
        self.sequences.remove(&sequence);
    }

    /// Sequences with rows in flight, in order of arrival.
    pub(crate) fn sequences(&self) -> Vec<SequenceId> {
        let mut ids: Vec<_> = self.sequences.keys().copied().collect();
        ids.sort_unstable();
        ids
    }

    pub(crate) fn clear(&mut self) {
        self.sequences.clear();
    }
}
