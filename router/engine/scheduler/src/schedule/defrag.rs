use super::{QueueId, Queues, Schedule};

/// Weight of a block by its distance, to the power of that distance.
const DELTA: f64 = 0.8;
/// Blocks looked ahead.
const LOOK_AHEAD: usize = 7;

/// The defragging schedule of AMoE (arXiv 2505.08944): a queue counts for its own depth, and for what waits in the blocks behind it, which
/// its rows would join.
///
/// With `Q[b]` entries of block b of N_B: `L(b) = sum_{k=1..K} delta^k * Q[(b+k) mod N_B]`, `S(b) = L(b) + Q[b]` where `Q[b]` > 0. The queue of
/// the largest S runs, of equal ones the first. A block is a queue: the experts of a gated sub-layer that this worker hosts are one group
/// (the paper's N_E is 1), as one call computes them. Attention, gates, embedding and head are blocks too where a worker has them.
#[derive(Debug, Clone, Default)]
pub struct Defrag {
    /// Per block its look-ahead.
    ahead: Vec<f64>,
}

impl Schedule for Defrag {
    fn next(&mut self, queues: &Queues<'_>) -> Option<QueueId> {
        let count = queues.queues.len();
        self.ahead.clear();
        self.ahead.resize(count, 0.0);
        // What waits counts for those before it.
        for queue in queues.filled {
            let mut worth = queues.queues[*queue].depth as f64;
            for k in 1..=LOOK_AHEAD {
                worth *= DELTA;
                self.ahead[(queue + count - k % count) % count] += worth;
            }
        }
        let score = |queue: QueueId| self.ahead[queue] + queues.queues[queue].depth as f64;
        let scored = queues.filled.iter().map(|queue| (score(*queue), *queue));
        scored.reduce(|best, other| if better(other, best) { other } else { best }).map(|(_, queue)| queue)
    }

    fn admits(&self, _: usize) -> bool {
        true
    }
}

/// The larger score, of equal ones the first queue.
pub(super) fn better(a: (f64, QueueId), b: (f64, QueueId)) -> bool {
    a.0 > b.0 || (a.0 == b.0 && a.1 < b.1)
}
