//! Policies and load in virtual time: a deterministic discrete-event simulation over logged outcomes.
//!
//! The decision is the router's own code; what an answer scores and how many tokens it takes comes from the table of runs;
//! how long it takes comes from [`machine`], from measured speeds. So a policy, an ablation or a load is evaluated in
//! seconds, and the same seed gives the same rows. What this cannot show is what the table does not hold: an answer that
//! the examples of another cache would have given.
//!
//! - [`machine`]: the tiers and the processor they share.
//! - [`requests`]: logged outcomes as requests with an answer for every arm.
//! - [`run`]: arrivals, decisions, feedback; one row a request in the form of `trace`, so that `report` draws it.

pub mod machine;
pub mod requests;
pub mod run;

pub use machine::{Machine, TierSpeed};
pub use requests::{Answers, Logged};
pub use run::{Simulation, simulate};

/// The same numbers on every machine.
fn seeded(seed: u64) -> rand_chacha::ChaCha8Rng {
    rand::SeedableRng::seed_from_u64(seed)
}
