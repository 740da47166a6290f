//! The offline side of Reprise: imports known good pairs, curates what the cache remembers, replays recorded requests
//! under a policy, and reports what that showed.
//!
//! It talks HTTP only. The store has one owner, the gateway, so even curation goes through the admin interface.

pub mod curate;
pub mod data;
pub mod evict;
pub mod gateway;
pub mod harness;
pub mod import;
pub mod learn;
pub mod policies;
pub mod pool;
pub mod report;
pub mod score;
pub mod simulate;
pub mod stats;
pub mod trace;
