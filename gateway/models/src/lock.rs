use std::{
    fs::{File, TryLockError},
    io,
    path::Path,
    time::Duration,
};

use tokio::time::sleep;

use crate::Progress;

/// Between looks whether the other pull is done.
const LOOK: Duration = Duration::from_millis(200);

/// The right to write into a model's folder, against other processes as well; the operating system takes it back when the
/// file is closed, so a pull that was killed leaves no stale lock.
#[derive(Debug)]
pub struct FolderLock(#[expect(dead_code, reason = "held for its drop")] File);

impl FolderLock {
    /// Waits for whoever holds it. `name` is told to the one who waits.
    pub async fn take(folder: &Path, name: &str, progress: &dyn Progress) -> io::Result<Self> {
        let lock = File::create(folder.join(".lock"))?;
        let mut told = false;
        loop {
            match lock.try_lock() {
                Ok(()) => return Ok(Self(lock)),
                Err(TryLockError::WouldBlock) if told => sleep(LOOK).await,
                Err(TryLockError::WouldBlock) => {
                    progress.note(&format!("  {name}: another process is fetching it; waiting"));
                    told = true;
                }
                Err(TryLockError::Error(error)) => return Err(error),
            }
        }
    }
}
