//! Rows on their way through the sub-layers: a micro-queue per sub-layer and per group of experts (AMoE, arXiv 2505.08944),
//! and the pool where the parts of a row are joined.
//!
//! Nothing here is lock-free or shared between threads: a worker owns its queues.

mod join;
mod micro;
mod order;

pub(crate) use join::JoinPool;
pub(crate) use micro::{Item, MicroQueues};
pub(crate) use order::Order;
