use crate::{
    ExpertId, ModelLayout, Moment, PartWork, Row, SubLayerKind,
    schedule::{QueueId, QueueState, Stage},
};

/// A row in a queue, or a part of a row in a queue of experts.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Item {
    pub(crate) part: PartWork,
    pub(crate) since: Moment,
}

impl Item {
    pub(crate) fn row(row: Row, since: Moment) -> Self {
        Self { part: PartWork { row, slot: 0, expert: 0 }, since }
    }
}

/// The queues of one worker, in the order in which a token passes them.
#[derive(Debug)]
pub(crate) struct MicroQueues {
    items: Vec<Vec<Item>>,
    states: Vec<QueueState>,
    /// The queue of each sub-layer; its groups of experts follow it.
    sub_layers: Vec<QueueId>,
    experts_per_group: u16,
}

impl MicroQueues {
    pub(crate) fn new(layout: &ModelLayout, experts_per_group: u16) -> Self {
        let (mut stages, mut sub_layers) = (vec![Stage::Embed], Vec::new());
        for (sub_layer, kind) in layout.sub_layers.iter().enumerate() {
            sub_layers.push(stages.len());
            stages.push(Stage::SubLayer(sub_layer));
            if let SubLayerKind::Experts { experts, .. } = kind {
                let groups = experts.div_ceil(experts_per_group);
                stages.extend((0..groups).map(|group| Stage::Experts { sub_layer, group }));
            }
        }
        stages.push(Stage::Head);
        Self {
            items: stages.iter().map(|_| Vec::new()).collect(),
            states: stages.into_iter().map(|stage| QueueState { stage, depth: 0, oldest: None }).collect(),
            sub_layers,
            experts_per_group,
        }
    }

    pub(crate) fn states(&self) -> &[QueueState] {
        &self.states
    }

    pub(crate) fn embed(&self) -> QueueId {
        0
    }

    pub(crate) fn head(&self) -> QueueId {
        self.states.len() - 1
    }

    pub(crate) fn sub_layer(&self, sub_layer: usize) -> QueueId {
        self.sub_layers[sub_layer]
    }

    pub(crate) fn experts(&self, sub_layer: usize, expert: ExpertId) -> QueueId {
        self.sub_layers[sub_layer] + 1 + usize::from(expert / self.experts_per_group)
    }

    pub(crate) fn push(&mut self, queue: QueueId, item: Item) {
        self.items[queue].push(item);
        let state = &mut self.states[queue];
        state.depth += 1;
        state.oldest.get_or_insert(item.since);
    }

    /// Empties a queue into `into`, in order of arrival.
    pub(crate) fn drain(&mut self, queue: QueueId, into: &mut Vec<Item>) {
        into.clear();
        into.append(&mut self.items[queue]);
        let state = &mut self.states[queue];
        (state.depth, state.oldest) = (0, None);
    }

    /// Takes out what `keep` does not keep.
    pub(crate) fn retain(&mut self, keep: impl Fn(Row) -> bool) {
        for (items, state) in self.items.iter_mut().zip(&mut self.states) {
            items.retain(|item| keep(item.part.row));
            (state.depth, state.oldest) = (items.len(), items.first().map(|item| item.since));
        }
    }

    /// Mean depth of the queues that are not empty.
    pub(crate) fn mean_depth(&self) -> f64 {
        let depths = self.states.iter().map(|state| state.depth).filter(|depth| *depth > 0);
        let (count, sum) = depths.fold((0usize, 0usize), |(count, sum), depth| (count + 1, sum + depth));
        if count == 0 { 0.0 } else { sum as f64 / count as f64 }
    }
}
