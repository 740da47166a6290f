use super::{QueueId, Queues, Schedule};

/// First layer first: the first queue in the order of computation that holds anything. Nobody starves: a worker's rows are
/// bounded, so the first layers run dry until later ones have let some out.
#[derive(Debug, Clone, Copy, Default)]
pub struct FirstLayerFirst;

impl Schedule for FirstLayerFirst {
    fn next(&mut self, queues: &Queues<'_>) -> Option<QueueId> {
        queues.filled.iter().copied().min()
    }

    fn admits(&self, _: usize) -> bool {
        true
    }
}
