use std::time::Duration;

use super::{Cost, QueueId, QueueState, Queues, Schedule, Stage, StageCosts};
use crate::{Moment, SubLayerKind};

/// Fewer entries than these are not expected to come: half of one.
const NOTHING: f64 = 0.5;

/// Rows per predicted time, those that are about to come included. A call reads its weights however few rows it has, so a call now
/// and another for the rows that come after take longer than one for all ([`Cost::saved`]).
///
/// A queue for which no more is about to come is ripe. Another is ripe once the worker has been idle, since the queue's last entry came,
/// for as long as one call for all would save: whoever waits no longer than that loses at most as much again as the best choice in
/// hindsight would (the ski-rental rule), and an entry that comes meanwhile has paid for the wait. Rows that attention lets through in two parts are two calls of experts too: before attention, both
/// count. Nothing is waited for while something else is ripe.
///
/// Of ripe queues the first in the order of computation runs: rows that are behind catch up with those ahead of them, and are computed
/// with them from then on.
#[derive(Debug, Clone)]
pub struct Roofline {
    kinds: Vec<SubLayerKind>,
    costs: StageCosts,
    /// Of each queue; and of what its rows come to next, where that reads weights of its own for them: behind attention the experts.
    of: Vec<(Cost, Option<Cost>)>,
    /// None: it chose a queue when it was asked last.
    idle_since: Option<Moment>,
    asks_again: Option<Moment>,
}

impl Roofline {
    #[must_use]
    pub const fn new(kinds: Vec<SubLayerKind>, costs: StageCosts) -> Self {
        Self { kinds, costs, of: Vec::new(), idle_since: None, asks_again: None }
    }
}

impl Schedule for Roofline {
    fn next(&mut self, queues: &Queues<'_>) -> Option<QueueId> {
        let Self { kinds, costs, of, idle_since, asks_again } = self;
        if of.len() != queues.queues.len() {
            let next = |stage: Stage| match stage {
                Stage::SubLayer(at) => {
                    let gated = kinds[at..].iter().any(|kind| matches!(kind, SubLayerKind::Experts { .. }));
                    gated.then_some(costs.expert)
                }
                Stage::Embed | Stage::Experts { .. } | Stage::Head => None,
            };
            let of_stage = |queue: &QueueState| (costs.of(queue.stage, kinds), next(queue.stage));
            *of = queues.queues.iter().map(of_stage).collect();
        }
        let idle = *idle_since.get_or_insert(queues.now);
        *asks_again = None;
        let mut first: Option<QueueId> = None;
        for queue in queues.filled {
            let state = &queues.queues[*queue];
            if state.soon > NOTHING {
                let since = state.newest.map_or(idle, |newest| newest.max(idle));
                let (own, next) = &of[*queue];
                let saved = |cost: &Cost| cost.saved(state.depth, state.soon).max(0.0);
                let saved = saved(own) + next.as_ref().map_or(0.0, saved);
                let ripe = Moment(since.0 + Duration::from_secs_f64(saved));
                if ripe > queues.now {
                    *asks_again = Some(asks_again.map_or(ripe, |other| other.min(ripe)));
                    continue;
                }
            }
            first = Some(first.map_or(*queue, |first| first.min(*queue)));
        }
        if first.is_some() {
            (*idle_since, *asks_again) = (None, None);
        }
        first
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
