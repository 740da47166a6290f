//! The thread that writes: all that waits goes into one write, so that many requests share it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::books::Books;
use super::file::{self, LedgerOptions};
use super::record::{Payer, Record};
use super::shared::{Inner, Shared};
use crate::limits::Amount;
use crate::lines::{Lines, line};

/// After a failed write, until the next attempt.
const RETRY: Duration = Duration::from_millis(500);
/// The longest that a settlement waits for a reservation to go with, where nothing is limited. After a kill what it would have
/// given back is counted.
const LATER: Duration = Duration::from_millis(10);
/// From one look at what stands ahead to the next.
const LOOK: Duration = Duration::from_secs(10);

/// What is written at once.
pub(super) struct Batch {
    pub records: Vec<Record>,
    pub last: u64,
    /// The books right after it, if a new file is due.
    books: Option<Books>,
    /// What was written before may be gone: the new file takes the place of this batch as well.
    broken: bool,
    closing: bool,
}

/// Until the desk is closed and all is written, or cannot be.
pub fn run(shared: &Shared, lines: Lines, options: &LedgerOptions) {
    write(shared, lines, options);
    shared.inner.lock().ended = true;
    shared.written.notify_one();
}

fn write(shared: &Shared, mut lines: Lines, options: &LedgerOptions) {
    let mut look = Instant::now() + LOOK;
    loop {
        let batch = wait(shared, lines.bytes() > options.file_bytes, &options.boot, &mut look);
        let (last, closing) = (batch.last, batch.closing);
        let mut next = None;
        while let Err(error) = take(&mut lines, &batch, options, &mut next) {
            if shared.fails() {
                tracing::error!(%error, path = %lines.path().display(), "the ledger cannot be written");
            }
            let mut inner = shared.inner.lock();
            if inner.closing {
                let records = batch.records.len() + inner.queue.len();
                tracing::error!(records, "records of the ledger are lost");
                return;
            }
            shared.wake.wait_for(&mut inner, RETRY);
        }
        let mut inner = shared.inner.lock();
        inner.progress.written = last;
        let begun = next.is_some();
        if let Some(next) = next {
            inner.file = next.file();
            inner.broken = false;
            lines = next;
        }
        if !inner.broken && std::mem::replace(&mut inner.progress.failing, false) {
            let dropped = std::mem::take(&mut inner.dropped);
            tracing::info!(dropped, "the ledger is written again");
        }
        // A new file begins with all of it, and on the disk; at the end there is nothing to be quick for.
        if begun || !options.sync || closing {
            inner.durable(last);
        }
        shared.tell(&inner);
        if inner.syncer_rests || inner.in_a_hurry() {
            shared.written.notify_one();
        }
        if closing {
            return;
        }
    }
}

/// Into the file, and where one is due into a new one, which begins with the books.
fn take(
    lines: &mut Lines,
    batch: &Batch,
    options: &LedgerOptions,
    next: &mut Option<Lines>,
) -> std::io::Result<()> {
    if batch.broken
        && let Some(books) = &batch.books
    {
        *next = Some(file::next(lines, books, options.files)?);
        return Ok(());
    }
    let mut text = Vec::new();
    for record in &batch.records {
        if let Err(error) = line(&mut text, record) {
            tracing::error!(%error, "a record of the ledger cannot be written");
        }
    }
    if options.sync && batch.closing {
        lines.append_synced(&text)?;
    } else {
        lines.append(&text)?;
    }
    if let Some(books) = &batch.books {
        if options.sync
            && let Err(error) = lines.sync()
        {
            tracing::warn!(%error, "the end of an old file of the ledger may be missing");
        }
        match file::next(lines, books, options.files) {
            Ok(new) => *next = Some(new),
            Err(error) => tracing::warn!(%error, "no new file for the ledger; the old one goes on"),
        }
    }
    Ok(())
}

/// Until somebody waits for a record, or settlements have waited long enough.
fn wait(shared: &Shared, full: bool, boot: &Arc<str>, look: &mut Instant) -> Batch {
    let mut inner = shared.inner.lock();
    // Settlements of what is under way come without notice.
    let mut soon = inner.books.any_open();
    while !(inner.urgent || inner.broken || inner.closing) {
        if soon || !inner.queue.is_empty() {
            if shared.wake.wait_for(&mut inner, LATER).timed_out() {
                if !inner.queue.is_empty() {
                    break;
                }
                soon = false;
            }
        } else {
            inner.idle = true;
            if inner.ahead.any() {
                if shared.wake.wait_until(&mut inner, *look).timed_out() {
                    inner.idle = false;
                    break;
                }
            } else {
                shared.wake.wait(&mut inner);
            }
            inner.idle = false;
        }
    }
    inner.urgent = false;
    batch(&mut inner, full, boot, look)
}

/// All that waits, and what is to stand ahead from now on.
pub(super) fn batch(inner: &mut Inner, full: bool, boot: &Arc<str>, look: &mut Instant) -> Batch {
    let (last, closing, broken) = (inner.queued, inner.closing, inner.broken);
    let mut records = std::mem::take(&mut inner.queue);
    let mut ahead = inner.ahead.raise(last);
    let now = Instant::now();
    if closing {
        ahead.extend(inner.ahead.end());
    } else if now >= *look {
        ahead.extend(inner.ahead.lower());
        *look = now + LOOK;
    }
    for (payer, amount) in ahead {
        let record = stands_ahead(boot, payer, amount);
        inner.books.apply(&record, 0);
        records.push(record);
    }
    let books = (full || broken).then(|| inner.books.clone());
    Batch { records, last, books, broken, closing }
}

fn stands_ahead(boot: &Arc<str>, payer: Payer, Amount { tokens, money }: Amount) -> Record {
    Record::Ahead { boot: Arc::clone(boot), payer, tokens, money_nanos: money }
}
