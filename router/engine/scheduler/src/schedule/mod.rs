//! Which micro-queue runs next: one policy per file.
//!
//! A schedule sees the depth and the age of every queue of its worker and the order of the sub-layers, and may keep state of
//! its own (look-ahead weights, predicted times). It sees no rows and computes nothing. Results never depend on it, only time does.

mod adaptive;
mod control;
mod costs;
mod defrag;
mod flfs;
mod kind;
mod lockstep;
mod mtfs;
mod patience;
mod roofline;
mod round;
#[cfg(test)]
mod tests;

use std::fmt::Debug;

pub use adaptive::Adaptive;
pub use control::{Control, ControlConfig, RowsOut};
pub use costs::{Cost, StageCosts};
pub use defrag::Defrag;
pub use flfs::FirstLayerFirst;
pub use kind::{ScheduleKind, UnknownSchedule};
pub use lockstep::Lockstep;
pub use mtfs::MostTokensFirst;
pub use patience::{PATIENCE, Patient};
pub use roofline::Roofline;

use crate::{Moment, SubLayerId, queues::Barrier};

/// What a micro-queue's rows wait for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Stage {
    /// The embedding of their token.
    Embed,
    /// A sub-layer; of a gated one, its gate.
    SubLayer(SubLayerId),
    /// Those experts of a gated sub-layer that the worker hosts: one call computes them all. Here an entry is a part of a row, not a row.
    Experts(SubLayerId),
    /// Final norm and output head.
    Head,
}

/// Where all rows enter behind the embedding.
pub(crate) const ENTRY: Stage = Stage::SubLayer(0);

/// What a schedule knows of a micro-queue.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct QueueState {
    pub stage: Stage,
    /// Entries that can run now.
    pub depth: usize,
    /// When the longest waiting of them came; `None` if the queue is empty.
    pub oldest: Option<Moment>,
    /// When the last of them came.
    pub newest: Option<Moment>,
    /// Nothing if the schedule does not ask ([`Schedule::foresees`]).
    pub foreseen: Foreseen,
}

impl QueueState {
    /// With nothing in it.
    #[must_use]
    pub fn empty(stage: Stage) -> Self {
        Self { stage, depth: 0, oldest: None, newest: None, foreseen: Foreseen::default() }
    }
}

/// What is known of rows that are not in a queue yet, as last told.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Foreseen {
    /// Entries that are about to come.
    pub soon: f64,
    /// As many entries as there were with all rows in flight together, wherever they are.
    pub whole: f64,
    /// Of these, behind the entry: those that wait there, for others to come round or for more of their own.
    pub enter: f64,
    /// Rows, wherever they are, for each entry here.
    pub rows: f64,
    /// Of a row: parts that come to the device that gets the most; how many are alone of their sequence, and positions whose KV is read for them.
    pub most: f64,
    pub alone: f64,
    pub reach: f64,
}

/// All micro-queues of a worker, in the order in which a token passes them.
#[derive(Debug, Clone, Copy)]
pub struct Queues<'a> {
    pub queues: &'a [QueueState],
    /// Those that are not empty, in any order: a worker may have thousands that are.
    pub filled: &'a [QueueId],
    pub now: Moment,
    /// Rows in flight that started on this worker, wherever they are.
    pub in_flight: usize,
    /// What other workers have said of this tick; none: there is nothing to wait for.
    pub(crate) barrier: Option<&'a Barrier>,
}

/// Index into [`Queues::queues`].
pub type QueueId = usize;

impl<'a> Queues<'a> {
    /// Of a worker that waits for no other.
    #[must_use]
    pub const fn alone(
        queues: &'a [QueueState],
        filled: &'a [QueueId],
        now: Moment,
        in_flight: usize,
    ) -> Self {
        Self { queues, filled, now, in_flight, barrier: None }
    }

    /// True if nothing of the same tick can still come into this queue.
    #[must_use]
    pub fn is_whole(&self, queue: QueueId) -> bool {
        let Some(barrier) = self.barrier else { return true };
        match self.queues[queue].stage {
            Stage::Experts(sub_layer) => barrier.is_whole(sub_layer),
            Stage::Embed | Stage::SubLayer(_) | Stage::Head => self.queues[queue].depth == self.in_flight,
        }
    }
}

/// Whether workers wait for each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Pace {
    /// All rows of a tick pass a sub-layer before any passes the next, on all devices.
    #[default]
    Lockstep,
    /// Two halves of the sequences, each in lock-step with itself: while one is with its experts the other attends.
    PingPong,
    /// Each worker computes what is ready, as [`Roofline`] chooses.
    Free,
    /// The same, as [`Defrag`] chooses.
    Defrag,
}

/// What all workers are told to do together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mode {
    pub pace: Pace,
    /// Whether all copies of a group of experts compute, or its home alone ([`Placement::home`](crate::Placement::home)): a copy evens the load
    /// out, but its weights are read once more.
    pub copies: bool,
}

impl Mode {
    /// With all copies that there are.
    #[must_use]
    pub const fn of(pace: Pace) -> Self {
        Self { pace, copies: true }
    }
}

impl Pace {
    /// Whether there is no barrier.
    #[must_use]
    pub const fn is_free(self) -> bool {
        matches!(self, Self::Free | Self::Defrag)
    }
}

/// Chooses the next queue to drain. Results never depend on the choice, only time does.
pub trait Schedule: Debug + Send {
    /// A queue that is not empty; `None` if all are, or to wait for more rows.
    fn next(&mut self, queues: &Queues<'_>) -> Option<QueueId>;

    /// Of a queue that was chosen, how many entries run now, the first of them: at least one.
    fn takes(&self, queue: &QueueState) -> usize {
        queue.depth
    }

    /// True if rows of a further tick may enter while so many are in flight.
    fn admits(&self, in_flight: usize) -> bool;

    /// True if all rows of a tick pass all sub-layers together, whatever the queues hold: then the backend may compute a tick in one
    /// call ([`Backend::step`](crate::Backend::step)).
    fn fuses(&self) -> bool {
        false
    }

    /// True if it wants to know what is about to come ([`QueueState::foreseen`]).
    fn foresees(&self) -> bool {
        false
    }

    /// True if rows wait before the first sub-layer for others to come round: they are not about to come to the gates behind it.
    fn gathers(&self) -> bool {
        false
    }

    /// With nothing chosen although there are entries: when to ask again if nothing comes before.
    fn asks_again(&self) -> Option<Moment> {
        None
    }

    /// All workers change their pace; for schedules that know both.
    fn set_pace(&mut self, pace: Pace) {
        let _ = pace;
    }
}
