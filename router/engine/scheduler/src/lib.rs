//! Which tokens a model computes next, and in what order: no I/O, no clock, no candle.
//!
//! [`Waiting`] holds requests; [`Core`] decides which tokens of which sequences are computed in a tick and where their KV lies
//! ([`kv`]); [`Executor`] moves these rows through the micro-queues of the sub-layers in the order that a [`Schedule`] chooses.
//! [`Pipeline`] is core and executor together. The compute itself stands behind [`Backend`].
//!
//! All of it is single-threaded state that its worker owns. Nothing is lock-free, so there is nothing for loom to explore:
//! what threads share (the waiting queue) they share under a lock outside of this crate.

mod backend;
mod core;
mod executor;
pub mod kv;
mod pipeline;
mod queues;
mod schedule;
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
pub use executor::{BlockTables, Executor, Finished};
pub use pipeline::{Broken, Pipeline, Turn};
pub use schedule::{Lockstep, QueueId, QueueState, Queues, Schedule, Stage};
pub use sequence::{NewSequence, Priority, SequenceId};
pub use time::Moment;
pub use waiting::{Entry, Ticket, Waiting};

#[cfg(test)]
mod tests;
