//! Which micro-queue runs next.
//!
//! A schedule sees the depth and the age of every queue of its worker and the order of the sub-layers, and may keep state of
//! its own (look-ahead weights, predicted times). It sees no rows and computes nothing.

use std::fmt::Debug;

use crate::{Moment, SubLayerId};

/// What a micro-queue's rows wait for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Stage {
    /// The embedding of their token.
    Embed,
    /// A sub-layer; of a gated one, its gate.
    SubLayer(SubLayerId),
    /// One group of experts of a gated sub-layer. Here an entry is a part of a row, not a row.
    Experts { sub_layer: SubLayerId, group: u16 },
    /// Final norm and output head.
    Head,
}

/// What a schedule knows of a micro-queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QueueState {
    pub stage: Stage,
    /// Entries that can run now.
    pub depth: usize,
    /// When the longest waiting of them came; `None` if the queue is empty.
    pub oldest: Option<Moment>,
}

/// All micro-queues of a worker, in the order in which a token passes them.
#[derive(Debug, Clone, Copy)]
pub struct Queues<'a> {
    pub queues: &'a [QueueState],
    pub now: Moment,
}

/// Index into [`Queues::queues`].
pub type QueueId = usize;

/// Chooses the next queue to drain. Results never depend on the choice, only time does.
pub trait Schedule: Debug + Send {
    /// A queue that is not empty; `None` if all are, or to wait for more rows.
    fn next(&mut self, queues: &Queues<'_>) -> Option<QueueId>;

    /// True if rows of a further tick may enter while so many are in flight.
    fn admits(&self, in_flight: usize) -> bool;

    /// True if all rows of a tick pass all sub-layers together, whatever the queues hold: then the backend may compute a tick in one
    /// call ([`Backend::step`](crate::Backend::step)).
    fn fuses(&self) -> bool {
        false
    }
}

/// A barrier: all rows of a tick pass a sub-layer before any passes the next, and the next tick waits for the end of this
/// one. The baseline, and on one device that is bound by reading weights also the fastest: every weight is read once a tick.
#[derive(Debug, Clone, Copy, Default)]
pub struct Lockstep;

impl Schedule for Lockstep {
    fn next(&mut self, queues: &Queues<'_>) -> Option<QueueId> {
        queues.queues.iter().position(|queue| queue.depth > 0)
    }

    fn admits(&self, in_flight: usize) -> bool {
        in_flight == 0
    }

    fn fuses(&self) -> bool {
        true
    }
}
