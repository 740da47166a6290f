use std::cmp::Reverse;

use super::{QueueId, Queues, Schedule};

/// Most tokens first: the deepest queue, of equal ones the first.
#[derive(Debug, Clone, Copy, Default)]
pub struct MostTokensFirst;

impl Schedule for MostTokensFirst {
    fn next(&mut self, queues: &Queues<'_>) -> Option<QueueId> {
        queues.filled.iter().copied().max_by_key(|queue| (queues.queues[*queue].depth, Reverse(*queue)))
    }

    fn admits(&self, _: usize) -> bool {
        true
    }
}
