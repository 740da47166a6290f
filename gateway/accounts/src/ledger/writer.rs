//! The thread that writes: all that waits goes into one write and one sync, so that many requests share it.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use tokio::sync::watch;

use super::books::Books;
use super::file::{self, LedgerOptions};
use super::record::Record;
use crate::lines::{Lines, line};

/// After a failed write, until the next attempt.
const RETRY: Duration = Duration::from_millis(500);

#[derive(Debug)]
pub struct Shared {
    /// Held for microseconds.
    pub inner: Mutex<Inner>,
    pub wake: Condvar,
    pub progress: watch::Sender<Progress>,
}

#[derive(Debug)]
pub struct Inner {
    pub books: Books,
    /// In the books, and not in the file yet.
    pub queue: Vec<Record>,
    /// The number of the last record that was put into the queue.
    pub queued: u64,
    pub closing: bool,
    /// Records for which there was no room in the queue while nothing could be written.
    pub dropped: u64,
}

/// Records that wait for a disk that takes nothing; beyond, those who are answered all the same are forgotten.
const MOST_WAITING: usize = 1 << 16;

/// How far the file is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Progress {
    /// All records up to this number are durable.
    pub durable: u64,
    /// The last attempt to write failed.
    pub failing: bool,
}

impl Inner {
    /// Puts the record into the books and into the queue; its number.
    pub fn enter(&mut self, record: Record, now: u64) -> u64 {
        self.books.apply(&record, now);
        if self.queue.len() < MOST_WAITING {
            self.queue.push(record);
        } else {
            self.dropped += 1;
        }
        self.queued += 1;
        self.queued
    }
}

/// What is written at once.
struct Batch {
    records: Vec<Record>,
    last: u64,
    /// The books right after it, if a new file is due.
    books: Option<Books>,
    closing: bool,
}

/// Until the desk is closed and all is written, or cannot be.
pub fn run(shared: &Arc<Shared>, mut lines: Lines, options: &LedgerOptions) {
    loop {
        let Batch { records, last, books, closing } = wait(shared, lines.bytes() > options.file_bytes);
        let mut text = Vec::new();
        for record in &records {
            if let Err(error) = line(&mut text, record) {
                tracing::error!(%error, "a record of the ledger cannot be written");
            }
        }
        while let Err(error) = append(&mut lines, &text, options.sync) {
            // On a line of its own: what is borrowed stays locked to the end of it.
            let durable = shared.progress.borrow().durable;
            let before = shared.progress.send_replace(Progress { durable, failing: true });
            if !before.failing {
                tracing::error!(%error, path = %lines.path().display(), "the ledger cannot be written");
            }
            let mut inner = shared.inner.lock();
            if inner.closing {
                tracing::error!(
                    records = records.len() + inner.queue.len(),
                    "records of the ledger are lost"
                );
                return;
            }
            shared.wake.wait_for(&mut inner, RETRY);
        }
        let before = shared.progress.send_replace(Progress { durable: last, failing: false });
        if before.failing {
            let dropped = std::mem::take(&mut shared.inner.lock().dropped);
            tracing::info!(dropped, "the ledger is written again");
        }
        if let Some(books) = books {
            match file::next(&lines, &books, options.files) {
                Ok(next) => lines = next,
                Err(error) => tracing::warn!(%error, "no new file for the ledger; the old one goes on"),
            }
        }
        if closing {
            return;
        }
    }
}

/// While writing fails, records come in at most as fast as half-seconds pass: the wait above is not a wait for them.
fn wait(shared: &Shared, full: bool) -> Batch {
    let mut inner = shared.inner.lock();
    while inner.queue.is_empty() && !inner.closing {
        shared.wake.wait(&mut inner);
    }
    let books = full.then(|| inner.books.clone());
    Batch { records: std::mem::take(&mut inner.queue), last: inner.queued, books, closing: inner.closing }
}

fn append(lines: &mut Lines, text: &[u8], sync: bool) -> std::io::Result<()> {
    if sync { lines.append_synced(text) } else { lines.append(text) }
}
