//! Who may ask for how much, and what was used.
//!
//! - [`KeyBook`]: virtual keys, each change of one on the disk before it is told.
//! - [`Desk`]: where a request reserves what it may use at most, before it is worked on, and settles for what it used.
//!   Limits and budgets hold exactly, whatever runs at once. What is reserved and what was used stands in the ledger, an
//!   append-only file from which the same state is built again after a crash.
//!
//! The crate knows nothing of HTTP, tiers or prompts. Decisions (may it, when again) take values and a time and do no
//! I/O: [`limits`] and [`ledger::Books`].

pub mod keys;
pub mod ledger;
pub mod limits;
mod lines;
mod moment;
mod money;

pub use keys::{Change, HashIndex, Key, KeyBook, KeyError, NewKey, Tiers};
pub use ledger::{
    Desk, LedgerError, LedgerOptions, NotRecorded, Opened, Outcome, Payer, PayerLimits, Reservation, Used,
};
pub use limits::{Account, Amount, Left, Limits, Period, Refused, Scope, Standing, Sum, What};
pub use lines::{Damage, sync_folder};
pub use moment::{Clock, Moment};
pub use money::{Money, Price};
