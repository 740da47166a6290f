use super::{QueueId, Queues, Schedule};

/// A barrier: all rows of a tick pass a sub-layer before any passes the next, and the next tick waits for the end of this
/// one. The baseline, and on one device that is bound by reading weights also the fastest: every weight is read once a tick.
#[derive(Debug, Clone, Copy, Default)]
pub struct Lockstep;

impl Schedule for Lockstep {
    fn next(&mut self, queues: &Queues<'_>) -> Option<QueueId> {
        queues.filled.iter().copied().filter(|queue| queues.is_whole(*queue)).min()
    }

    fn admits(&self, in_flight: usize) -> bool {
        in_flight == 0
    }

    fn fuses(&self) -> bool {
        true
    }
}
