use std::{cmp::Reverse, time::Duration};

use super::{Cost, ENTRY, QueueId, QueueState, Queues, Schedule, Stage, StageCosts, round::Round};
use crate::{Moment, SubLayerId, SubLayerKind, placement::Hosting};

/// Fewer entries than these are not expected to come: half of one.
const NOTHING: f64 = 0.5;
/// Waits of what they save, at most. The ski-rental rule has 1; but what is about to come was counted and comes, so that a wait given up just before is
/// the costlier mistake.
const WORTH: f64 = 2.0;
/// Of a half, so much is all of it.
const WHOLE: f64 = 0.95;
/// And more than so much more than one.
const MORE: f64 = 1.5;

/// Rows per predicted time, those that are about to come included. A call reads its weights however few rows it has, so a call now
/// and another for the rows that come after take longer than one for all ([`Cost::saved`]); of experts, as many as the parts meet
/// ([`StageCosts::spread`]).
///
/// A queue for which no more is about to come is ripe. Another is ripe once the worker has been idle, since the queue's last entry came, for
/// twice as long as one call for all would save: an entry that comes meanwhile has paid for the wait. Rows that attention lets
/// through in two parts are two calls of experts too: before attention, both count. Nothing is waited for while something else is ripe.
///
/// Where two halves pass from gate to gate in less time than all rows together (`round.rs`), a half is ripe whatever else is about to come, and
/// attention takes all rows in two calls.
///
/// Rows that have met stay together, and few that go alone take calls of their own of every sub-layer. So where one device has all attention they meet as
/// they enter: before the first attention they wait for those that are anywhere else, until all are there or a half is, of which no more go on than
/// that. One call for all saves at every gate then, and as many times as much is waited for.
///
/// Of ripe queues those of a worker's own rows come before its experts, and of these the last in the order of computation: rows that are ahead
/// come round, and meet at the beginning those that are behind and those that are new. (The first: whatever is new would run through alone
/// until it meets the others, wherever these are.) Of experts the first runs: there rows of several devices meet, and those behind catch up.
#[derive(Debug, Clone)]
pub struct Roofline {
    costs: StageCosts,
    gates: Vec<Gate>,
    kinds: Vec<SubLayerKind>,
    /// The first sub-layer is attention, and makes groups ([`Round::gathers`]).
    gathers: bool,
    /// Of each queue.
    of: Vec<Of>,
    /// None: it chose a queue when it was asked last.
    idle_since: Option<Moment>,
    asks_again: Option<Moment>,
}

/// Of a queue.
#[derive(Debug, Clone)]
struct Of {
    own: Cost,
    /// Of what its rows come to next, where that reads weights of its own for them: behind attention the experts.
    behind: Option<Cost>,
    /// Index of the gate at or behind it; of the ends, which all rows pass in turn, the first.
    gate: Option<usize>,
}

/// What a row's parts take at the experts behind a gate.
#[derive(Debug, Clone, Copy)]
struct Gate {
    sub_layer: SubLayerId,
    /// Of parts here, and of rows anywhere: devices compute theirs side by side.
    here: Cost,
    anywhere: Cost,
    round: Round,
}

impl Roofline {
    /// `hosting`: by sub-layer; one expert for those that are not told.
    #[must_use]
    pub fn new(kinds: &[SubLayerKind], costs: StageCosts, hosting: &[Hosting]) -> Self {
        let gated = kinds.iter().filter(|kind| matches!(kind, SubLayerKind::Experts { .. })).count();
        let gate = |(sub_layer, kind): (SubLayerId, &SubLayerKind)| {
            let SubLayerKind::Experts { top_k, .. } = *kind else { return None };
            let hosting = hosting.get(sub_layer)?;
            let Hosting { here, hosts, each, .. } = *hosting;
            let anywhere = costs.spread(each).of_times(f64::from(top_k) / hosts.max(1) as f64);
            let round = Round::new(&costs, hosting, top_k, gated);
            Some(Gate { sub_layer, here: costs.spread(here as f64), anywhere, round })
        };
        let gates: Vec<_> = kinds.iter().enumerate().filter_map(gate).collect();
        let attends = kinds.first() == Some(&SubLayerKind::Attention);
        let gathers = attends && gates.iter().any(|gate| gate.round.gathers());
        let (kinds, of) = (kinds.to_vec(), Vec::new());
        Self { costs, gates, kinds, gathers, of, idle_since: None, asks_again: None }
    }

    /// Index of the gate at or behind a sub-layer.
    fn gate(&self, at: SubLayerId) -> Option<usize> {
        self.gates.iter().position(|gate| gate.sub_layer >= at)
    }

    fn of(&self, stage: Stage) -> Of {
        let own = self.costs.of(stage, &self.kinds);
        match stage {
            Stage::Experts(at) => {
                let gate = self.gate(at).filter(|gate| self.gates[*gate].sub_layer == at);
                Of { own: gate.map_or(own, |gate| self.gates[gate].here), behind: None, gate }
            }
            Stage::SubLayer(at) => {
                let gate = self.gate(at);
                Of { own, behind: gate.map(|gate| self.gates[gate].anywhere), gate }
            }
            Stage::Embed | Stage::Head => Of { own, behind: None, gate: self.gates.first().map(|_| 0) },
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
        let Self { of, costs, gates, gathers, idle_since, asks_again, .. } = self;
        let idle = *idle_since.get_or_insert(queues.now);
        *asks_again = None;
        let mut next = None;
        for queue in queues.filled {
            let state = &queues.queues[*queue];
            let foreseen = &state.foreseen;
            let Of { own, behind, gate } = &of[*queue];
            let enters = *gathers && state.stage == ENTRY;
            // What nothing is about to come to is ripe, halves or not.
            let gate = gate.filter(|_| enters || foreseen.soon > NOTHING).and_then(|gate| gates.get(gate));
            let half = gate.and_then(|gate| gate.round.half(costs, foreseen));
            let depth = state.depth as f64;
            // Of those that have entered.
            let is_half = half.is_some_and(|half| depth >= WHOLE * (half - foreseen.enter / 2.0));
            let (soon, passes) = if enters {
                (half.unwrap_or(foreseen.whole) - depth, gates.len() as f64)
            } else {
                (foreseen.soon, 1.0)
            };
            if soon > NOTHING && !is_half {
                let since = state.newest.map_or(idle, |newest| newest.max(idle));
                let saved = |cost: &Cost| cost.saved(state.depth, soon).max(0.0);
                let saved = passes * (saved(own) + behind.as_ref().map_or(0.0, saved));
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

    fn takes(&self, state: &QueueState) -> usize {
        let Stage::SubLayer(at) = state.stage else { return state.depth };
        let gate = self.gate(at).filter(|_| self.kinds.get(at) == Some(&SubLayerKind::Attention));
        let half = gate.and_then(|gate| self.gates[gate].round.half(&self.costs, &state.foreseen));
        match half {
            Some(half) if self.gathers && state.stage == ENTRY => {
                state.depth.min((half.ceil() as usize).max(1))
            }
            Some(half) if state.depth as f64 > MORE * half => state.depth.div_ceil(2),
            _ => state.depth,
        }
    }

    fn admits(&self, _: usize) -> bool {
        true
    }

    fn foresees(&self) -> bool {
        true
    }

    fn gathers(&self) -> bool {
        self.gathers
    }

    fn asks_again(&self) -> Option<Moment> {
        self.asks_again
    }
}
