//! Which tokens a model computes next, and in what order: no I/O, no clock, no candle.
//!
//! [`Waiting`] holds requests; [`Core`] decides which tokens of which sequences are computed in a tick and where their KV lies
//! ([`kv`]); [`Executor`] moves these rows through the micro-queues of the sub-layers in the order that a [`Schedule`] chooses.
//! [`Pipeline`] is core and executor together. The compute itself stands behind [`Backend`].
//!
//! A model may be spread over devices: a [`Placement`] says which computes what, each has a pipeline of its own, and [`Parcel`]s go
//! between them. `reprise-expert-parallel` carries these between threads, or through a simulation.
//!
//! All of it is single-threaded state that its worker owns. Nothing is lock-free, so there is nothing for loom to explore:
//! what threads share (the waiting queue) they share under a lock outside of this crate.

mod backend;
mod core;
mod exchange;
mod executor;
mod faulty;
pub mod kv;
mod pipeline;
pub mod placement;
mod queues;
pub mod schedule;
mod sequence;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
mod time;
mod waiting;

pub use backend::{
    AttentionRow, Backend, BackendError, BlockId, ExpertId, Head, Heads, ModelLayout, PartWork, Row, StepRow,
    SubLayerId, SubLayerKind,
};
pub use core::{ConfigError, Core, CoreConfig, Counts, Plan, PlannedRow, StartError};
pub use exchange::{Exchange, Leg, Parcel, RemotePart, WayTimes};
pub use executor::{BlockTables, Executor, Finished, Lane, Work};
pub use faulty::{Before, Faulty};
pub use pipeline::{Broken, Pipeline, Turn};
pub use placement::{DeviceId, Placement};
pub use queues::{Ahead, Notice, Visit};
pub use schedule::{Lockstep, Mode, Pace, QueueId, QueueState, Queues, Schedule, ScheduleKind, Stage};
pub use sequence::{NewSequence, Priority, SequenceId};
pub use time::Moment;
pub use waiting::{Entry, Ticket, Waiting};

#[cfg(test)]
mod tests;
