//! The data directory: one gateway at a time, and where in it is what.

use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};

/// Held as long as the gateway runs; the system lets go of it when the process ends, however that ends.
#[derive(Debug)]
pub struct DataDir {
    _lock: File,
}

impl DataDir {
    /// Makes the directory if need be, and takes it.
    pub fn take(path: &Path) -> anyhow::Result<Self> {
        let name = || format!("the data directory {}", path.display());
        std::fs::create_dir_all(path).with_context(|| format!("cannot make {}", name()))?;
        let lock = File::options().create(true).truncate(false).write(true).open(path.join("lock"));
        let lock = lock.with_context(|| format!("cannot write to {}", name()))?;
        match lock.try_lock() {
            Ok(()) => Ok(Self { _lock: lock }),
            Err(TryLockError::WouldBlock) => {
                bail!("another gateway runs on {}; give this one its own with --data-dir", name())
            }
            Err(TryLockError::Error(error)) => Err(error).with_context(|| format!("cannot lock {}", name())),
        }
    }
}

#[must_use]
pub fn store(data_dir: &Path) -> PathBuf {
    data_dir.join("store")
}

#[must_use]
pub fn router_snapshot(data_dir: &Path) -> PathBuf {
    data_dir.join("router.json")
}

/// Keys made while the gateway runs.
#[must_use]
pub fn keys(data_dir: &Path) -> PathBuf {
    data_dir.join("keys.log")
}

/// The ledger's folder.
#[must_use]
pub fn usage(data_dir: &Path) -> PathBuf {
    data_dir.join("usage")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_gateway_is_refused_while_the_first_runs() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("data");
        let first = DataDir::take(&path).unwrap();
        assert!(DataDir::take(&path).unwrap_err().to_string().contains("another gateway"));
        drop(first);
        DataDir::take(&path).unwrap();
    }

    #[test]
    fn a_file_in_the_way_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("data");
        std::fs::write(&path, "x").unwrap();
        assert!(format!("{:#}", DataDir::take(&path).unwrap_err()).contains("data"));
    }
}
