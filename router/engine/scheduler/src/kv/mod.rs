//! KV memory: a pool of equal blocks, shared between sequences that begin alike.
//!
//! Paged attention after vLLM (arXiv 2309.06180): a sequence's KV lies in blocks of a fixed number of tokens, in any order,
//! and its block table names them. A full block is published under its whole prefix; a sequence with the same prefix
//! takes the block instead of computing it. Shared blocks are full, hence never written again: no copy on write.

mod pool;
mod prefix;

pub use pool::BlockPool;
pub use prefix::Prefix;
