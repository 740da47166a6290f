use std::{cmp::Reverse, time::Duration};

use super::{Cost, QueueId, Queues, Schedule, Stage, StageCosts};
use crate::{Moment, SubLayerId, SubLayerKind, placement::Hosting};

/// Fewer entries than these are not expected to come: half of one.
const NOTHING: f64 = 0.5;
/// Waits of what they save, at most. The ski-rental rule has 1; but what is about to come was counted and comes, so that a wait given up just before is
/// the costlier mistake.
const WORTH: f64 = 2.0;

/// Rows per predicted time, those that are about to come included. A call reads its weights however few rows it has, so a call now
/// and another for the rows that come after take longer than one for all ([`Cost::saved`]); of experts, as many as the parts meet
/// ([`StageCosts::spread`]).
///
/// A queue for which no more is about to come is ripe. Another is ripe once the worker has been idle, since the queue's last entry came, for
/// twice as long as one call for all would save: an entry that comes meanwhile has paid for the wait. Rows that attention lets
/// through in two parts are two calls of experts too: before attention, both count. Nothing is waited for while something else is ripe.
///
/// Of ripe queues those of a worker's own rows come before its experts, and of these the last in the order of computation: rows that are ahead
/// come round, and meet at the beginning those that are behind and those that are new. (The first: whatever is new would run through alone
/// until it meets the others, wherever these are.) Of experts the first runs: there rows of several devices meet, and those behind catch up.
#[derive(Debug, Clone)]
pub struct Roofline {
    costs: StageCosts,
    gates: Vec<Gate>,
    kinds: Vec<SubLayerKind>,
    /// Of each queue; and of what its rows come to next, where that reads weights of its own for them: behind attention the experts.
    of: Vec<(Cost, Option<Cost>)>,
    /// None: it chose a queue when it was asked last.
    idle_since: Option<Moment>,
    asks_again: Option<Moment>,
}

/// What a row's parts take at the experts behind a gate.
#[derive(Debug, Clone, Copy)]
struct Gate {
    sub_layer: SubLayerId,
    /// Of parts here, and of rows anywhere: devices compute theirs side by side.
    here: Cost,
    anywhere: Cost,
}

impl Roofline {
    /// `hosting`: by sub-layer; one expert for those that are not told.
    #[must_use]
    pub fn new(kinds: &[SubLayerKind], costs: StageCosts, hosting: &[Hosting]) -> Self {
        let gate = |(sub_layer, kind): (SubLayerId, &SubLayerKind)| {
            let SubLayerKind::Experts { top_k, .. } = *kind else { return None };
            let Hosting { here, hosts, each, .. } = *hosting.get(sub_layer)?;
            let anywhere = costs.spread(each).of_times(f64::from(top_k) / hosts.max(1) as f64);
            Some(Gate { sub_layer, here: costs.spread(here as f64), anywhere })
        };
        let gates = kinds.iter().enumerate().filter_map(gate).collect();
        Self { costs, gates, kinds: kinds.to_vec(), of: Vec::new(), idle_since: None, asks_again: None }
    }

    /// Of a queue, and of what its rows come to next, where that reads weights of its own for them.
    fn of(&self, stage: Stage) -> (Cost, Option<Cost>) {
        let next = |at: SubLayerId| self.gates.iter().find(|gate| gate.sub_layer >= at);
        match stage {
            Stage::Experts(at) => {
                let gate = next(at).filter(|gate| gate.sub_layer == at);
                (gate.map_or(self.costs.expert, |gate| gate.here), None)
            }
            Stage::SubLayer(at) => (self.costs.of(stage, &self.kinds), next(at).map(|gate| gate.anywhere)),
            Stage::Embed | Stage::Head => (self.costs.of(stage, &self.kinds), None),
        }
    }
}

/// Of ripe queues the largest runs.
fn rank(stage: Stage, queue: QueueId) -> (bool, Reverse<QueueId>, QueueId) {
    match stage {
        Stage::Experts(_) => (false, Reverse(queue), queue),
        Stage::Embed | Stage::SubLayer(_) | Stage::Head => (true, Reverse(0), queue),
    }
}

impl Schedule for Roofline {
    fn next(&mut self, queues: &Queues<'_>) -> Option<QueueId> {
        if self.of.len() != queues.queues.len() {
            self.of = queues.queues.iter().map(|queue| self.of(queue.stage)).collect();
        }
        let Self { of, idle_since, asks_again, .. } = self;
        let idle = *idle_since.get_or_insert(queues.now);
        *asks_again = None;
        let mut next = None;
        for queue in queues.filled {
            let state = &queues.queues[*queue];
            if state.soon > NOTHING {
                let since = state.newest.map_or(idle, |newest| newest.max(idle));
                let (own, next) = &of[*queue];
                let saved = |cost: &Cost| cost.saved(state.depth, state.soon).max(0.0);
                let saved = saved(own) + next.as_ref().map_or(0.0, saved);
                let ripe = Moment(since.0 + Duration::from_secs_f64(WORTH * saved));
                if ripe > queues.now {
                    *asks_again = Some(asks_again.map_or(ripe, |other| other.min(ripe)));
                    continue;
                }
            }
            next = next.max(Some(rank(state.stage, *queue)));
        }
        if next.is_some() {
            (*idle_since, *asks_again) = (None, None);
        }
        next.map(|(.., queue)| queue)
    }

    fn admits(&self, _: usize) -> bool {
        true
    }

    fn foresees(&self) -> bool {
        true
    }

    fn asks_again(&self) -> Option<Moment> {
        self.asks_again
    }
}
