//! Rows on their way through the sub-layers: a micro-queue per sub-layer, and of a gated one another for the experts that a worker hosts (AMoE,
//! arXiv 2505.08944), the pool where the parts of a row are joined, and the barrier of devices in lock-step.
//!
//! Nothing here is lock-free or shared between threads: a worker owns its queues.

mod barrier;
mod join;
mod micro;
mod order;
mod upstream;
mod visits;

pub use barrier::Notice;
pub(crate) use barrier::{Barrier, ERA};
pub(crate) use join::JoinPool;
pub(crate) use micro::{Item, MicroQueues};
pub(crate) use order::Order;
pub use upstream::Ahead;
pub(crate) use upstream::Upstream;
pub use visits::Visit;
pub(crate) use visits::Visits;
