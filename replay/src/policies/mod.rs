//! Policies and ablations from the table of runs, one request at a time on an idle machine: what each scores, what it costs and
//! how it stands against always asking the large tier. Loads and queues are for [`simulate`](crate::simulate).
//!
//! - [`play`]: the live router decides; what it chose is looked up in the table.
//! - [`classifier`]: the baseline that routes by a win probability learned from answers without examples.
//! - [`service`]: what an answer takes, from measured speeds.
//! - [`mod@measure`]: plays as rows of a report, with intervals.
//! - [`study`]: which policies and settings.
//! - [`drift`]: the mix of requests changes.
//! - [`arms`]: every arm of the table by itself: what ablations of selection are read from.

pub mod arms;
pub mod classifier;
pub mod drift;
pub mod measure;
pub mod play;
pub mod service;
pub mod study;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;

pub use measure::{Measured, measure};
pub use play::{Play, Played};
