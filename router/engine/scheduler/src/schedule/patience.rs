use std::time::Duration;

use super::{Pace, QueueId, QueueState, Queues, Schedule};
use crate::Moment;

/// An entry that waited longer goes first.
pub const PATIENCE: Duration = Duration::from_millis(100);

/// A schedule whose longest waiting entry goes first once it waited for more than [`PATIENCE`]: where depth decides, a lonely
/// row could wait for ever.
#[derive(Debug, Clone, Copy, Default)]
pub struct Patient<S>(pub S);

impl<S: Schedule> Schedule for Patient<S> {
    fn next(&mut self, queues: &Queues<'_>) -> Option<QueueId> {
        let age = |queue: &QueueId| Some((queues.queues[*queue].oldest?, *queue));
        let longest = queues.filled.iter().filter_map(age).min();
        match longest {
            Some((since, queue)) if queues.now.since(since) > PATIENCE => Some(queue),
            _ => self.0.next(queues),
        }
    }

    fn takes(&self, queue: &QueueState) -> usize {
        self.0.takes(queue)
    }

    fn admits(&self, in_flight: usize) -> bool {
        self.0.admits(in_flight)
    }

    fn fuses(&self) -> bool {
        self.0.fuses()
    }

    fn foresees(&self) -> bool {
        self.0.foresees()
    }

    fn gathers(&self) -> bool {
        self.0.gathers()
    }

    fn asks_again(&self) -> Option<Moment> {
        self.0.asks_again()
    }

    fn set_pace(&mut self, pace: Pace) {
        self.0.set_pace(pace);
    }
}
