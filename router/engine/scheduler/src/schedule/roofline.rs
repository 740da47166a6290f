use super::{Cost, QueueId, Queues, Schedule, StageCosts, defrag::better};
use crate::SubLayerKind;

/// Rows per predicted time: the queue whose call would come nearest to the most entries per second that its stage can reach
/// ([`Cost::efficiency`]). Depth alone favours stages that are cheap anyway; this asks where a larger batch would gain least,
/// because the weights that it reads are already paid for. Among equals the deepest, then the first.
#[derive(Debug, Clone)]
pub struct Roofline {
    kinds: Vec<SubLayerKind>,
    costs: StageCosts,
    /// Of each queue.
    of: Vec<Cost>,
}

impl Roofline {
    #[must_use]
    pub const fn new(kinds: Vec<SubLayerKind>, costs: StageCosts) -> Self {
        Self { kinds, costs, of: Vec::new() }
    }
}

impl Schedule for Roofline {
    fn next(&mut self, queues: &Queues<'_>) -> Option<QueueId> {
        let Self { kinds, costs, of } = self;
        if of.len() != queues.queues.len() {
            *of = queues.queues.iter().map(|queue| costs.of(queue.stage, kinds)).collect();
        }
        let depth = |queue: QueueId| queues.queues[queue].depth;
        let scored = queues.filled.iter().map(|queue| (of[*queue].efficiency(depth(*queue)), *queue));
        let first = |a: (f64, QueueId), b: (f64, QueueId)| {
            if a.0 == b.0 { better((depth(a.1) as f64, a.1), (depth(b.1) as f64, b.1)) } else { a.0 > b.0 }
        };
        scored.reduce(|best, other| if first(other, best) { other } else { best }).map(|(_, queue)| queue)
    }

    fn admits(&self, _: usize) -> bool {
        true
    }
}
