//! Where memory outlives the process.
//!
//! Keys and values are bytes; what they mean is the caller's ([`codec`]). Every write has a sequence number, and
//! [`Store::changes_since`] is the feed of them: an index follows it, and several gateways can later share one store and
//! each keep its own index.

pub mod codec;
mod memory;
mod recovery;
mod sled;

use std::fmt;

use thiserror::Error;

pub use self::sled::{SledConfig, SledStore};
pub use memory::MemoryStore;
pub use recovery::{CheckReport, Probe, Recovery, check, open_or_recover, open_or_recover_with};

/// One change of one key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Write {
    Put { key: Vec<u8>, value: Vec<u8> },
    Delete { key: Vec<u8> },
}

/// A key that changed; its value is read from the store, where it may have changed again or gone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoggedChange {
    pub sequence: u64,
    pub key: Vec<u8>,
}

/// What a scan calls for each entry: key, value.
pub type Visit<'v> = &'v mut dyn FnMut(&[u8], &[u8]);

/// A durable, ordered map of bytes.
pub trait Store: Send + Sync + fmt::Debug {
    /// # Errors
    /// The disk or the store's files failed.
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError>;

    /// All of the writes or none; returns the sequence number of the last. Durable after the next flush.
    ///
    /// # Errors
    /// The disk refused; nothing was written.
    fn write(&self, writes: &[Write]) -> Result<u64, StoreError>;

    /// Entries whose key begins with `prefix`, in order of key.
    ///
    /// # Errors
    /// The disk or the store's files failed.
    fn scan(&self, prefix: &[u8], visit: Visit<'_>) -> Result<(), StoreError>;

    /// Number of the last write; 0 if there was none.
    fn sequence(&self) -> u64;

    /// Changes after `sequence`, oldest first, at most `limit`. Changes older than the log keeps are gone: a reader that
    /// is so far behind reads everything.
    ///
    /// # Errors
    /// The disk or the store's files failed.
    fn changes_since(&self, sequence: u64, limit: usize) -> Result<Vec<LoggedChange>, StoreError>;

    /// Hands everything written to the operating system. Survives a killed process, not a power cut.
    ///
    /// # Errors
    /// The disk refused.
    fn flush(&self) -> Result<(), StoreError>;

    /// # Errors
    /// The store's files cannot be read.
    fn size_on_disk(&self) -> Result<u64, StoreError>;
}

/// Why the store failed. Never the client's fault.
#[derive(Debug, Error)]
pub enum StoreError {
    #[error("the store at {path} cannot be opened: {reason}")]
    Open { path: std::path::PathBuf, reason: String },
    #[error("the store at {path} is in use by another process")]
    Locked { path: std::path::PathBuf },
    #[error("the store's disk failed: {0}")]
    Io(String),
    #[error("the store's files are damaged: {0}")]
    Damaged(String),
}
