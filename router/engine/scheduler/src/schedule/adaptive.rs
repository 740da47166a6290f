use super::{Defrag, Lockstep, Pace, Patient, QueueId, QueueState, Queues, Roofline, Schedule, StageCosts};
use crate::{Moment, SubLayerKind, placement::Hosting};

/// Lock-step, ping-pong, roofline or defrag, as all workers are told together: what pays depends on the load, the experts and the number of
/// devices, and a [`Control`](super::Control) that sees all of them decides from measurements. Begins in lock-step.
#[derive(Debug, Clone)]
pub struct Adaptive {
    pace: Pace,
    roofline: Patient<Roofline>,
    defrag: Patient<Defrag>,
}

impl Adaptive {
    #[must_use]
    pub fn new(kinds: &[SubLayerKind], costs: StageCosts, hosting: &[Hosting]) -> Self {
        Self {
            pace: Pace::Lockstep,
            roofline: Patient(Roofline::new(kinds, costs, hosting)),
            defrag: Patient(Defrag::default()),
        }
    }

    fn now(&self) -> &dyn Schedule {
        match self.pace {
            Pace::Lockstep | Pace::PingPong => &Lockstep,
            Pace::Free => &self.roofline,
            Pace::Defrag => &self.defrag,
        }
    }
}

impl Schedule for Adaptive {
    fn next(&mut self, queues: &Queues<'_>) -> Option<QueueId> {
        match self.pace {
            Pace::Lockstep | Pace::PingPong => Lockstep.next(queues),
            Pace::Free => self.roofline.next(queues),
            Pace::Defrag => self.defrag.next(queues),
        }
    }

    fn takes(&self, queue: &QueueState) -> usize {
        self.now().takes(queue)
    }

    fn admits(&self, in_flight: usize) -> bool {
        self.now().admits(in_flight)
    }

    fn fuses(&self) -> bool {
        self.now().fuses()
    }

    fn foresees(&self) -> bool {
        self.now().foresees()
    }

    fn gathers(&self) -> bool {
        self.now().gathers()
    }

    fn asks_again(&self) -> Option<Moment> {
        self.now().asks_again()
    }

    fn set_pace(&mut self, pace: Pace) {
        self.pace = pace;
    }
}
