use super::{Defrag, Lockstep, Pace, Patient, QueueId, Queues, Schedule};

/// Lock-step or defrag, as all workers are told together: what pays depends on the load, the experts and the number of
/// devices, and a [`Control`](super::Control) that sees all of them decides from measurements. Begins in lock-step.
#[derive(Debug, Clone, Default)]
pub struct Adaptive {
    pace: Pace,
    defrag: Patient<Defrag>,
}

impl Schedule for Adaptive {
    fn next(&mut self, queues: &Queues<'_>) -> Option<QueueId> {
        match self.pace {
            Pace::Lockstep => Lockstep.next(queues),
            Pace::Free => self.defrag.next(queues),
        }
    }

    fn admits(&self, in_flight: usize) -> bool {
        match self.pace {
            Pace::Lockstep => Lockstep.admits(in_flight),
            Pace::Free => self.defrag.admits(in_flight),
        }
    }

    fn fuses(&self) -> bool {
        self.pace == Pace::Lockstep
    }

    fn set_pace(&mut self, pace: Pace) {
        self.pace = pace;
    }
}
