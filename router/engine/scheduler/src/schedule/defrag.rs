use super::{QueueId, QueueState, Queues, Schedule, Stage};

/// Weight of a block by its distance, to the power of that distance.
const DELTA: f64 = 0.8;
/// Blocks looked ahead.
const LOOK_AHEAD: usize = 7;

/// The defragging schedule of AMoE (arXiv 2505.08944): a queue counts for its own depth, and for what waits in the blocks behind it, which
/// its rows would join.
///
/// With `Q[b][e]` entries for group e of block b, N_B blocks and N_E groups of a block on this worker:
/// `L(b) = sum_{k=1..K} delta^k * (sum_e' Q[(b+k) mod N_B][e']) / N_E`, `S(b,e) = L(b) + Q[b][e]` where `Q[b][e]` > 0. The queue of the largest
/// S runs, of equal ones the first. A block is a sub-layer's queues of one kind; of a worker with experts only, a gated sub-layer, as
/// in the paper. Attention, gates, embedding and head are blocks of one group where a worker has them.
#[derive(Debug, Clone, Default)]
pub struct Defrag {
    blocks: Blocks,
    /// Per block: mean entries of a group, and the look-ahead.
    means: Vec<f64>,
    ahead: Vec<f64>,
}

#[derive(Debug, Clone, Default)]
struct Blocks {
    /// Of each queue its block.
    of: Vec<usize>,
    /// Groups of each block.
    groups: Vec<f64>,
}

impl Blocks {
    fn new(queues: &[QueueState]) -> Self {
        let block = |stage: Stage| match stage {
            // Groups are told apart by the sub-layer alone.
            Stage::Experts { sub_layer, .. } => Stage::Experts { sub_layer, group: 0 },
            other => other,
        };
        let mut blocks = Self::default();
        let mut last = None;
        for queue in queues {
            let this = Some(block(queue.stage));
            if this != last {
                blocks.groups.push(0.0);
                last = this;
            }
            blocks.of.push(blocks.groups.len() - 1);
            if let Some(groups) = blocks.groups.last_mut() {
                *groups += 1.0;
            }
        }
        blocks
    }
}

impl Schedule for Defrag {
    fn next(&mut self, queues: &Queues<'_>) -> Option<QueueId> {
        if self.blocks.of.len() != queues.queues.len() {
            self.blocks = Blocks::new(queues.queues);
        }
        let Self { blocks, means, ahead } = self;
        let count = blocks.groups.len();
        means.clear();
        means.resize(count, 0.0);
        for queue in queues.filled {
            let block = blocks.of[*queue];
            means[block] += queues.queues[*queue].depth as f64 / blocks.groups[block];
        }
        ahead.clear();
        ahead.extend((0..count).map(|block| {
            let (mut weight, mut sum) = (1.0, 0.0);
            for k in 1..=LOOK_AHEAD {
                weight *= DELTA;
                sum += weight * means[(block + k) % count];
            }
            sum
        }));
        let score = |queue: QueueId| ahead[blocks.of[queue]] + queues.queues[queue].depth as f64;
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
