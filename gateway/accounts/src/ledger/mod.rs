//! What is reserved and what was used: first in memory, where limits are held to, and then in a file from which the same is
//! built again.
//!
//! ```text
//! reserve ──> Books (in memory, one lock) ──> queue ──> writer's thread ──> usage-N.log ──> syncer's thread
//! settle  ──┘                                             └──> how far the file is written    └──> and on the disk
//! ```
//!
//! A reservation is what a request may use at most. It is written before anything of the answer is sent, so that the end of the
//! process at any moment leaves either what was used or, in its place, more. The same holds for the end of the machine: either
//! the reservation is on the disk by then, or what stands there ahead of it (`ahead.rs`) covers it. A settlement is waited for by
//! nobody; where nothing is limited it goes with the next reservation, or a little later. All go into the queue under the lock of the books, so the file
//! has them in the order in which they happened.

mod ahead;
mod books;
mod desk;
mod file;
mod record;
mod shared;
mod syncer;
#[cfg(test)]
mod tests;
mod writer;

pub use books::{Books, State};
pub use desk::{Desk, NotRecorded, Opened, PayerLimits, Reservation};
pub use file::{LedgerError, LedgerOptions};
pub use record::{Outcome, Payer, Record, Used};
