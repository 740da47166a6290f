use super::{upstream::Upstream, visits::Visit};
use crate::{
    ExpertId, ModelLayout, Moment, PartWork, Row, SubLayerId, SubLayerKind,
    placement::{DeviceId, Placement},
    schedule::{QueueId, QueueState, Stage},
};

/// A row in a queue, or a part of a row in a queue of experts.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Item {
    pub(crate) part: PartWork,
    pub(crate) visit: Visit,
    pub(crate) since: Moment,
}

impl Item {
    pub(crate) fn row(row: Row, since: Moment) -> Self {
        Self { part: PartWork { row, slot: 0, expert: 0 }, visit: Visit::default(), since }
    }
}

/// The queues of one worker, in the order in which a token passes them: those of attention and gates where it has attention, and those of the
/// experts that it hosts, all of a sub-layer in one.
#[derive(Debug)]
pub(crate) struct MicroQueues {
    items: Vec<Vec<Item>>,
    states: Vec<QueueState>,
    /// Those that hold something, and of each queue its place in that list.
    filled: Vec<QueueId>,
    places: Vec<usize>,
    /// Per sub-layer its own queue, where there is one.
    sub_layers: Vec<Option<QueueId>>,
    /// Per sub-layer that of its experts, where any are hosted.
    experts: Vec<Option<QueueId>>,
    /// Of each queue what an entry is of a row.
    shares: Vec<f64>,
}

const NOWHERE: usize = usize::MAX;

impl MicroQueues {
    pub(crate) fn new(layout: &ModelLayout, placement: &Placement, me: DeviceId) -> Self {
        let attends = placement.rank(me).is_some();
        let (mut stages, mut sub_layers, mut experts) = (Vec::new(), Vec::new(), Vec::new());
        let share = |stage: &Stage| match *stage {
            Stage::Experts(at) if let SubLayerKind::Experts { top_k, .. } = layout.sub_layers[at] => {
                1.0 / f64::from(top_k.max(1))
            }
            _ => 1.0,
        };
        if attends {
            stages.push(Stage::Embed);
        }
        for sub_layer in 0..layout.sub_layers.len() {
            sub_layers.push(attends.then_some(stages.len()));
            if attends {
                stages.push(Stage::SubLayer(sub_layer));
            }
            let hosts = placement.hosts(sub_layer).contains(&me);
            experts.push(hosts.then_some(stages.len()));
            if hosts {
                stages.push(Stage::Experts(sub_layer));
            }
        }
        if attends {
            stages.push(Stage::Head);
        }
        let shares = stages.iter().map(share).collect();
        Self {
            items: stages.iter().map(|_| Vec::new()).collect(),
            filled: Vec::new(),
            places: vec![NOWHERE; stages.len()],
            states: stages.into_iter().map(QueueState::empty).collect(),
            sub_layers,
            experts,
            shares,
        }
    }

    pub(crate) fn states(&self) -> &[QueueState] {
        &self.states
    }

    pub(crate) fn filled(&self) -> &[QueueId] {
        &self.filled
    }

    /// Of a worker with attention.
    pub(crate) fn embed(&self) -> QueueId {
        0
    }

    /// Of a worker with attention.
    pub(crate) fn head(&self) -> QueueId {
        self.states.len() - 1
    }

    pub(crate) fn sub_layer(&self, sub_layer: SubLayerId) -> Option<QueueId> {
        self.sub_layers[sub_layer]
    }

    pub(crate) fn experts(&self, sub_layer: SubLayerId) -> Option<QueueId> {
        self.experts[sub_layer]
    }

    /// Of each part that waits, its expert.
    pub(crate) fn waiting_parts(&self) -> impl Iterator<Item = (SubLayerId, ExpertId)> {
        let items = |queue: &QueueId| match self.states[*queue].stage {
            Stage::Experts(sub_layer) => {
                Some(self.items[*queue].iter().map(move |item| (sub_layer, item.part.expert)))
            }
            Stage::Embed | Stage::SubLayer(_) | Stage::Head => None,
        };
        self.filled.iter().filter_map(items).flatten()
    }

    pub(crate) fn push(&mut self, queue: QueueId, item: Item) {
        self.items[queue].push(item);
        let state = &mut self.states[queue];
        state.depth += 1;
        state.oldest.get_or_insert(item.since);
        state.newest = Some(item.since);
        if self.places[queue] == NOWHERE {
            self.places[queue] = self.filled.len();
            self.filled.push(queue);
        }
    }

    /// Moves so many of a queue's items to the end of `into`, the first to come.
    pub(crate) fn drain(&mut self, queue: QueueId, count: usize, into: &mut Vec<Item>) {
        let items = &mut self.items[queue];
        into.extend(items.drain(..count.min(items.len())));
        self.changed(queue);
    }

    /// Takes out what `keep` does not keep.
    pub(crate) fn retain(&mut self, keep: impl Fn(Row) -> bool) {
        for queue in self.filled.clone() {
            self.items[queue].retain(|item| keep(item.part.row));
            self.changed(queue);
        }
    }

    fn changed(&mut self, queue: QueueId) {
        let items = &self.items[queue];
        let state = &mut self.states[queue];
        (state.depth, state.oldest) = (items.len(), items.first().map(|item| item.since));
        state.newest = items.last().map(|item| item.since);
        let place = self.places[queue];
        if items.is_empty() && place != NOWHERE {
            self.filled.swap_remove(place);
            self.places[queue] = NOWHERE;
            if let Some(moved) = self.filled.get(place) {
                self.places[*moved] = place;
            }
        }
    }

    /// What is about to come to each queue that is not empty.
    pub(crate) fn foresee(&mut self, upstream: &Upstream) {
        for queue in &self.filled {
            let stage = self.states[*queue].stage;
            let soon = match stage {
                Stage::Embed => 0.0,
                Stage::Experts(sub_layer) => upstream.parts(sub_layer),
                Stage::SubLayer(at) => {
                    // Those in queues on the way to the gate have passed here, or wait here.
                    let goal = upstream.goal_of(at);
                    let ahead = (at..=goal).filter_map(|at| self.sub_layers.get(at).copied().flatten());
                    let here: usize = ahead.map(|queue| self.states[queue].depth).sum();
                    upstream.rows(at).saturating_sub(here) as f64
                }
                Stage::Head => {
                    upstream.rows(self.sub_layers.len()).saturating_sub(self.states[*queue].depth) as f64
                }
            };
            self.states[*queue].foreseen = upstream.foresee(stage, soon);
        }
    }

    /// Depth of each queue that is not empty, in rows: a part is a share of one.
    pub(crate) fn depths(&self) -> impl Iterator<Item = f64> {
        self.filled.iter().map(|queue| self.states[*queue].depth as f64 * self.shares[*queue])
    }

    /// When the longest waiting entry came.
    pub(crate) fn oldest(&self) -> Option<Moment> {
        self.filled.iter().filter_map(|queue| self.states[*queue].oldest).min()
    }
}
