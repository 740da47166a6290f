//! Virtual keys: made, changed, rotated and revoked while the gateway runs.
//!
//! Only hashes are kept. Keys are long and random, so that a slow password hash would protect nothing more and cost each
//! request.

mod book;
mod index;
mod key;

pub use book::{Change, KeyBook, KeyError, NewKey};
pub use index::HashIndex;
pub use key::{Digest, Key, Tiers, sha256};
