use super::{Lockstep, Pace, Patient, QueueId, Queues, Roofline, Schedule, StageCosts};
use crate::{Moment, SubLayerKind};

/// Lock-step, ping-pong or roofline, as all workers are told together: what pays depends on the load, the experts and the number of
/// devices, and a [`Control`](super::Control) that sees all of them decides from measurements. Begins in lock-step.
#[derive(Debug, Clone)]
pub struct Adaptive {
    pace: Pace,
    free: Patient<Roofline>,
}

impl Adaptive {
    #[must_use]
    pub const fn new(kinds: Vec<SubLayerKind>, costs: StageCosts) -> Self {
        Self { pace: Pace::Lockstep, free: Patient(Roofline::new(kinds, costs)) }
    }

    fn is_free(&self) -> bool {
        self.pace == Pace::Free
    }
}

impl Schedule for Adaptive {
    fn next(&mut self, queues: &Queues<'_>) -> Option<QueueId> {
        if self.is_free() { self.free.next(queues) } else { Lockstep.next(queues) }
    }

    fn admits(&self, in_flight: usize) -> bool {
        if self.is_free() { self.free.admits(in_flight) } else { Lockstep.admits(in_flight) }
    }

    fn fuses(&self) -> bool {
        !self.is_free()
    }

    fn foresees(&self) -> bool {
        self.is_free()
    }

    fn asks_again(&self) -> Option<Moment> {
        if self.is_free() { self.free.asks_again() } else { None }
    }

    fn set_pace(&mut self, pace: Pace) {
        self.pace = pace;
    }
}
