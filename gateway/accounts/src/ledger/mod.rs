//! What is reserved and what was used: first in memory, where limits are held to, and then in a file from which the same is
//! built again.
//!
//! ```text
//! reserve ──> Books (in memory, one lock) ──> queue ──> writer's thread ──> usage-N.log, synced in groups
//! settle  ──┘                                             └──> tells how far the file is durable
//! ```
//!
//! A reservation is what a request may use at most. It is durable before anything of the answer is sent, so that a crash at
//! any moment leaves either what was used or, in its place, more. Both go into the queue under the lock of the books, so the
//! file has them in the order in which they happened.

mod books;
mod desk;
mod file;
mod record;
#[cfg(test)]
mod tests;
mod writer;

pub use books::{Books, State};
pub use desk::{Desk, NotRecorded, Opened, PayerLimits, Reservation};
pub use file::{LedgerError, LedgerOptions};
pub use record::{Outcome, Payer, Record, Used};
