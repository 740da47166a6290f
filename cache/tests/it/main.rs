//! The cache through its public interface, one behaviour a file.
//!
//! Modules with helpers say `cfg(test)`, so that lints know them for tests.

mod admission;
mod concurrency;
#[cfg(test)]
mod damaged;
mod degraded;
mod eviction;
mod exact;
mod feed;
mod isolation;
mod listing;
mod restart;
#[cfg(test)]
mod support;
#[cfg(test)]
mod utility;
