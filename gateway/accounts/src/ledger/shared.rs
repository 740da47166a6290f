//! What requests, the writer and the syncer share.

use std::fs::File;
use std::sync::Arc;

use parking_lot::{Condvar, Mutex};
use tokio::sync::watch;

use super::ahead::Ahead;
use super::books::Books;
use super::record::{Payer, Record};
use crate::limits::Amount;

#[derive(Debug)]
pub struct Shared {
    /// Held for microseconds.
    pub inner: Mutex<Inner>,
    /// The writer waits for it.
    pub wake: Condvar,
    /// The syncer waits for it.
    pub written: Condvar,
    pub progress: watch::Sender<Progress>,
}

#[derive(Debug)]
pub struct Inner {
    pub books: Books,
    /// In the books, and not in the file yet.
    pub queue: Vec<Record>,
    /// The number of the last record that was put into the queue.
    pub queued: u64,
    /// Records for which there was no room in the queue while nothing could be written.
    pub dropped: u64,
    pub ahead: Ahead,
    /// Somebody waits for what is in the queue.
    pub urgent: bool,
    /// The writer waits, however long it takes, for the first record to come.
    pub idle: bool,
    /// The last record that somebody has to wait for until it is on the disk.
    pub hurried: u64,
    pub file: Arc<File>,
    /// What was written may be gone: a sync of it failed.
    pub broken: bool,
    pub progress: Progress,
    pub closing: bool,
    /// The writer has ended.
    pub ended: bool,
    /// What is written is synced as well.
    pub syncs: bool,
    /// The syncer has nothing to do.
    pub syncer_rests: bool,
}

/// Records that wait for a disk that takes nothing; beyond, those who are answered all the same are forgotten.
const MOST_WAITING: usize = 1 << 16;

/// How far the file is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Progress {
    /// All records up to this number are in the file, which the end of the process does not change.
    pub written: u64,
    /// All records up to this number are on the disk.
    pub durable: u64,
    /// The last attempt to write or to sync failed.
    pub failing: bool,
}

/// What has to be before anything of an answer is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stands {
    /// Nothing was to be recorded.
    Already,
    /// This record is in the file.
    Written(u64),
    /// This record is on the disk.
    Durable(u64),
}

impl Inner {
    pub fn new(books: Books, file: Arc<File>, syncs: bool) -> Self {
        Self {
            books,
            file,
            syncs,
            queue: Vec::new(),
            queued: 0,
            dropped: 0,
            ahead: Ahead::default(),
            urgent: false,
            idle: false,
            hurried: 0,
            broken: false,
            progress: Progress::default(),
            closing: false,
            ended: false,
            syncer_rests: false,
        }
    }

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

    /// What has to be before this reservation counts as recorded.
    pub fn reserved(&mut self, number: u64, payer: &Payer, amount: Amount) -> Stands {
        self.urgent = true;
        if !self.syncs || self.ahead.reserve(number, payer, amount) {
            return Stands::Written(number);
        }
        self.hurried = number;
        Stands::Durable(number)
    }

    /// A record that nothing ahead covers.
    pub fn uncovered(&mut self, number: u64) -> Stands {
        self.urgent = true;
        self.hurried = number;
        if self.syncs { Stands::Durable(number) } else { Stands::Written(number) }
    }

    /// Somebody waits for the disk.
    pub fn in_a_hurry(&self) -> bool {
        self.hurried > self.progress.durable
    }

    /// All up to this record is on the disk.
    pub fn durable(&mut self, number: u64) {
        self.progress.durable = self.progress.durable.max(number);
        self.ahead.durable(number);
    }
}

impl Progress {
    pub fn reaches(&self, stands: Stands) -> bool {
        match stands {
            Stands::Already => true,
            Stands::Written(number) => self.written >= number,
            Stands::Durable(number) => self.durable >= number,
        }
    }
}

impl Shared {
    pub fn new(inner: Inner) -> Self {
        Self {
            inner: Mutex::new(inner),
            wake: Condvar::new(),
            written: Condvar::new(),
            progress: watch::Sender::new(Progress::default()),
        }
    }

    /// The last attempt failed. True if the one before it did not.
    pub fn fails(&self) -> bool {
        let mut inner = self.inner.lock();
        let first = !std::mem::replace(&mut inner.progress.failing, true);
        self.tell(&inner);
        first
    }

    pub fn tell(&self, inner: &Inner) {
        self.progress.send_replace(inner.progress);
    }
}
