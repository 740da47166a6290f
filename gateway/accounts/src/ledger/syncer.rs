//! The thread that syncs, beside the one that writes: who needs a record only in the file does not wait for the disk.

use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::MutexGuard;

use super::shared::Shared;

/// Between two syncs that nobody waits for. What is written meanwhile has to be covered by what is on the disk ahead.
const PACE: Duration = Duration::from_millis(5);

/// Until the writer has ended.
pub fn run(shared: &Shared) {
    let mut inner = shared.inner.lock();
    let mut next = Instant::now();
    loop {
        while !inner.ended && (inner.broken || inner.progress.written == inner.progress.durable) {
            inner.syncer_rests = true;
            shared.written.wait(&mut inner);
            inner.syncer_rests = false;
        }
        while !inner.ended && !inner.in_a_hurry() && !shared.written.wait_until(&mut inner, next).timed_out()
        {
        }
        if inner.ended {
            return;
        }
        let (written, file) = (inner.progress.written, Arc::clone(&inner.file));
        let synced = MutexGuard::unlocked(&mut inner, || file.sync_data());
        next = Instant::now() + PACE;
        match synced {
            Ok(()) => inner.durable(written),
            Err(_) if !Arc::ptr_eq(&file, &inner.file) => {
                // By now another file holds all of it.
            }
            Err(error) => {
                tracing::error!(%error, "the ledger cannot be synced");
                // What the disk did not take may be gone from memory as well. The writer begins a new file.
                (inner.broken, inner.progress.failing) = (true, true);
                shared.wake.notify_one();
            }
        }
        shared.tell(&inner);
    }
}
