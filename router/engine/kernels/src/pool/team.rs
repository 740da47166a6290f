//! The lock-free part of a pool: how a region begins, who takes which index, and when it is over. `model.rs` has loom try the orders
//! in which threads can meet here.

#![expect(
    unsafe_code,
    reason = "lends a job that lives on the caller's stack to the workers for the time of `run`"
)]

use std::fmt;
use std::time::Duration;

use super::sync::{
    AtomicBool, AtomicU64, AtomicUsize, Ordering, UnsafeCell, fence, park, spin_until, yield_now,
};

/// How long a worker looks for the next region before it parks.
const SPIN: Duration = Duration::from_micros(50);
/// How long the caller looks for the end of the region before it gives its core to others.
const BARRIER_SPIN: Duration = Duration::from_micros(100);

/// Must not unwind.
type Job<'a> = dyn Fn(usize) + Sync + 'a;

/// What a caller and its workers share.
#[derive(Debug)]
pub(super) struct Team {
    /// The number of the current region. Written by the caller of `run`.
    epoch: AtomicU64,
    /// Indices of the current region that have not returned.
    pending: AtomicUsize,
    stop: AtomicBool,
    slots: Vec<Slot>,
    job: JobCell,
}

/// What belongs to one worker, on a cache line of its own.
#[derive(Debug)]
#[repr(align(128))]
struct Slot {
    /// The last region whose index was taken, by the worker or by the caller.
    claimed: AtomicU64,
    /// Set by the worker before it parks.
    asleep: AtomicBool,
}

struct JobCell(UnsafeCell<Option<*const Job<'static>>>);

// SAFETY: written by the caller before it publishes the epoch (release) and read only by a thread that claimed an index of that epoch
// (acquire); the caller does not write again before that thread has counted down `pending`.
unsafe impl Sync for JobCell {}
// SAFETY: as above; the pointee is Sync.
unsafe impl Send for JobCell {}

impl fmt::Debug for JobCell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JobCell")
    }
}

impl Team {
    pub fn new(workers: usize) -> Self {
        let slot = |_| Slot { claimed: AtomicU64::new(0), asleep: AtomicBool::new(false) };
        Self {
            epoch: AtomicU64::new(0),
            pending: AtomicUsize::new(0),
            stop: AtomicBool::new(false),
            slots: (0..workers).map(slot).collect(),
            job: JobCell(UnsafeCell::new(None)),
        }
    }

    /// One region: `job(index)` for each index in `0..=workers`, 0 on this thread. `wake(worker)` unparks a worker's thread.
    /// One caller at a time; `job` must not unwind.
    pub fn run(&self, job: &Job<'_>, wake: &dyn Fn(usize)) {
        let job: *const Job<'_> = job;
        // SAFETY: only the lifetime changes. No thread uses the pointer after `pending` is zero, which this function waits for.
        let job: *const Job<'static> = unsafe { std::mem::transmute(job) };
        // SAFETY: no thread reads the cell between regions, and there is one caller.
        self.job.0.with_mut(|cell| unsafe { *cell = Some(job) });
        self.pending.store(self.slots.len() + 1, Ordering::Relaxed);
        let epoch = self.epoch.load(Ordering::Relaxed) + 1;
        self.epoch.store(epoch, Ordering::Release);
        // With the fence of a worker that goes to sleep: one of the two sees the other's store.
        fence(Ordering::SeqCst);
        for (worker, slot) in self.slots.iter().enumerate() {
            if slot.asleep.load(Ordering::Relaxed) {
                wake(worker);
            }
        }
        self.call(job, 0);
        for (slot, index) in self.slots.iter().zip(1..) {
            if slot.claim(epoch) {
                self.call(job, index);
            }
        }
        let done = || self.pending.load(Ordering::Acquire) == 0;
        if !spin_until(BARRIER_SPIN, done) {
            while !done() {
                yield_now();
            }
        }
    }

    /// A worker's life: takes index `index`, at least 1, of each region until [`Team::stop`] and an unparking.
    pub fn work(&self, index: usize) {
        let slot = &self.slots[index - 1];
        let mut seen = 0;
        loop {
            let news = || self.epoch.load(Ordering::Acquire) != seen || self.stop.load(Ordering::Relaxed);
            if !spin_until(SPIN, news) {
                slot.asleep.store(true, Ordering::Relaxed);
                fence(Ordering::SeqCst);
                while !news() {
                    park();
                }
                slot.asleep.store(false, Ordering::Relaxed);
            }
            if self.stop.load(Ordering::Relaxed) {
                return;
            }
            seen = self.epoch.load(Ordering::Acquire);
            if slot.claim(seen) {
                // SAFETY: the claim succeeded, so that the region `seen` runs until this thread counts down: nobody writes the cell.
                if let Some(job) = self.job.0.with(|cell| unsafe { *cell }) {
                    self.call(job, index);
                }
            }
        }
    }

    /// Workers return once they are unparked.
    pub fn stop(&self) {
        self.stop.store(true, Ordering::SeqCst);
    }

    fn call(&self, job: *const Job<'static>, index: usize) {
        // SAFETY: this thread holds an index of the current region, which is counted in `pending`: `run` has not returned.
        unsafe { (*job)(index) };
        self.pending.fetch_sub(1, Ordering::Release);
    }
}

impl Slot {
    fn claim(&self, epoch: u64) -> bool {
        self.claimed.compare_exchange(epoch - 1, epoch, Ordering::AcqRel, Ordering::Relaxed).is_ok()
    }
}

#[cfg(all(test, loom))]
mod model;
