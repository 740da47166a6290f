//! A team of threads for parallel regions of some microseconds: the calling thread and its workers.
//!
//! Decoding one token runs over a hundred regions of 5 to 50 microseconds each, so that a region must start within a microsecond:
//! a worker spins for a short time after each region before it parks. rayon parks at once and divides work by stealing; a team that
//! spins without end (as OpenMP does) takes the core from other processes.
//!
//! There are as many threads as cores, and other processes run too. An index of the job belongs to a worker, but the caller,
//! once done with its own, takes those that no worker has begun: a worker that sleeps or was preempted between regions holds up nobody.

#![expect(
    unsafe_code,
    reason = "lends a job that lives on the caller's stack to the workers for the time of `run`"
)]

use std::any::Any;
use std::cell::{Cell, UnsafeCell};
use std::num::NonZeroUsize;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{JoinHandle, Thread};
use std::time::{Duration, Instant};

/// How long a worker looks for the next region before it parks.
const SPIN: Duration = Duration::from_micros(50);
/// How long the caller looks for the end of the region before it gives its core to others.
const BARRIER_SPIN: Duration = Duration::from_micros(100);

thread_local! {
    /// Whether this thread runs a job of a pool: a region inside a region runs on this thread alone.
    static INSIDE: Cell<bool> = const { Cell::new(false) };
}

/// The operating system did not give a thread.
#[derive(Debug, thiserror::Error)]
#[error("cannot start worker {index} of the compute pool")]
pub struct PoolError {
    index: usize,
    source: std::io::Error,
}

/// A team of threads: the caller of [`Pool::run`] and `threads - 1` workers.
#[derive(Debug)]
pub struct Pool {
    shared: Arc<Shared>,
    workers: Vec<Worker>,
    /// One region at a time.
    region: Mutex<()>,
}

#[derive(Debug)]
struct Worker {
    thread: Thread,
    handle: Option<JoinHandle<()>>,
}

type Job<'a> = dyn Fn(usize) + Sync + 'a;

#[derive(Debug)]
struct Shared {
    /// The number of the current region. Written by the caller, under `Pool::region`.
    epoch: AtomicU64,
    /// Indices of the current region that have not returned.
    pending: AtomicUsize,
    stop: AtomicBool,
    slots: Vec<Slot>,
    job: JobCell,
    panic: Mutex<Option<Box<dyn Any + Send>>>,
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

impl std::fmt::Debug for JobCell {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("JobCell")
    }
}

impl Pool {
    /// Starts `threads - 1` workers.
    ///
    /// # Errors
    /// When the operating system refuses a thread.
    pub fn new(threads: NonZeroUsize) -> Result<Self, PoolError> {
        let slots = (1..threads.get())
            .map(|_| Slot { claimed: AtomicU64::new(0), asleep: AtomicBool::new(false) })
            .collect();
        let shared = Arc::new(Shared {
            epoch: AtomicU64::new(0),
            pending: AtomicUsize::new(0),
            stop: AtomicBool::new(false),
            slots,
            job: JobCell(UnsafeCell::new(None)),
            panic: Mutex::new(None),
        });
        let mut pool = Self { shared, workers: Vec::new(), region: Mutex::new(()) };
        for index in 1..threads.get() {
            let shared = Arc::clone(&pool.shared);
            let handle = std::thread::Builder::new()
                .name(format!("compute-{index}"))
                .spawn(move || shared.work(index))
                .map_err(|source| PoolError { index, source })?;
            pool.workers.push(Worker { thread: handle.thread().clone(), handle: Some(handle) });
        }
        Ok(pool)
    }

    /// Threads of the team, the caller included.
    pub fn threads(&self) -> usize {
        self.workers.len() + 1
    }

    /// Runs `job(index)` once for each index in `0..threads()`, index 0 on the calling thread, and returns when all have returned. Other
    /// indices may run on any thread of the team, one after another too: a job must not wait for another index.
    /// Inside a job, `run` runs all indices on the thread it is called from.
    ///
    /// # Panics
    /// With the panic of a job, after all indices have returned. The pool stays usable.
    pub fn run(&self, job: &(dyn Fn(usize) + Sync)) {
        if self.workers.is_empty() || INSIDE.get() {
            (0..self.threads()).for_each(job);
            return;
        }
        let region = self.region.lock().unwrap_or_else(PoisonError::into_inner);
        let shared = &*self.shared;
        let job: *const Job<'_> = job;
        // SAFETY: only the lifetime changes. No thread uses the pointer after `pending` is zero, which this function waits for.
        let job: *const Job<'static> = unsafe { std::mem::transmute(job) };
        // SAFETY: no thread reads the cell between regions, and `region` keeps other callers out.
        unsafe { *shared.job.0.get() = Some(job) };
        shared.pending.store(self.threads(), Ordering::Relaxed);
        let epoch = shared.epoch.load(Ordering::Relaxed) + 1;
        // Sequentially consistent, as the worker's `asleep` then `epoch`: one of the two sees the other's store.
        shared.epoch.store(epoch, Ordering::SeqCst);
        for (slot, worker) in shared.slots.iter().zip(&self.workers) {
            if slot.asleep.load(Ordering::SeqCst) {
                worker.thread.unpark();
            }
        }
        shared.call(job, 0);
        for (slot, index) in shared.slots.iter().zip(1..) {
            if slot.claim(epoch) {
                shared.call(job, index);
            }
        }
        shared.wait();
        let panic = shared.panic.lock().unwrap_or_else(PoisonError::into_inner).take();
        drop(region);
        if let Some(payload) = panic {
            resume_unwind(payload);
        }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        for worker in &mut self.workers {
            worker.thread.unpark();
            if let Some(handle) = worker.handle.take() {
                // A worker catches its jobs' panics: it cannot have panicked.
                let _ = handle.join();
            }
        }
    }
}

impl Slot {
    fn claim(&self, epoch: u64) -> bool {
        self.claimed.compare_exchange(epoch - 1, epoch, Ordering::AcqRel, Ordering::Relaxed).is_ok()
    }
}

impl Shared {
    fn call(&self, job: *const Job<'static>, index: usize) {
        INSIDE.set(true);
        // SAFETY: this thread holds an index of the current region, which is counted in `pending`: `run` has not returned.
        let result = catch_unwind(AssertUnwindSafe(|| unsafe { (*job)(index) }));
        INSIDE.set(false);
        if let Err(payload) = result {
            let mut first = self.panic.lock().unwrap_or_else(PoisonError::into_inner);
            first.get_or_insert(payload);
        }
        self.pending.fetch_sub(1, Ordering::Release);
    }

    fn wait(&self) {
        if spin_until(BARRIER_SPIN, || self.pending.load(Ordering::Acquire) == 0) {
            return;
        }
        while self.pending.load(Ordering::Acquire) != 0 {
            std::thread::yield_now();
        }
    }

    fn work(&self, index: usize) {
        let slot = &self.slots[index - 1];
        let mut seen = 0;
        loop {
            let news = || self.epoch.load(Ordering::SeqCst) != seen || self.stop.load(Ordering::Relaxed);
            if !spin_until(SPIN, news) {
                slot.asleep.store(true, Ordering::SeqCst);
                while !news() {
                    std::thread::park();
                }
                slot.asleep.store(false, Ordering::Relaxed);
            }
            if self.stop.load(Ordering::Relaxed) {
                return;
            }
            seen = self.epoch.load(Ordering::Acquire);
            if slot.claim(seen) {
                // SAFETY: the claim succeeded, so that the region `seen` runs until this thread counts down: nobody writes the cell.
                if let Some(job) = unsafe { *self.job.0.get() } {
                    self.call(job, index);
                }
            }
        }
    }
}

/// Whether `done` came true within `limit`. The clock is read rarely: reading it costs more than looking.
fn spin_until(limit: Duration, done: impl Fn() -> bool) -> bool {
    let mut start = None;
    loop {
        for _ in 0..64 {
            if done() {
                return true;
            }
            std::hint::spin_loop();
        }
        let start = *start.get_or_insert_with(Instant::now);
        if start.elapsed() > limit {
            return false;
        }
    }
}

/// The contiguous share of `items` (in multiples of `grain`, but for the last) of thread `index` of `count`.
pub fn share(items: usize, grain: usize, index: usize, count: usize) -> Range<usize> {
    let grain = grain.max(1);
    let grains = items.div_ceil(grain);
    let at = |index: usize| (grains * index / count.max(1) * grain).min(items);
    at(index)..at(index + 1)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn pool(threads: usize) -> Pool {
        Pool::new(NonZeroUsize::new(threads).unwrap()).unwrap()
    }

    #[test]
    fn each_index_runs_once_in_each_of_many_regions() {
        for threads in [1, 2, 5] {
            let pool = pool(threads);
            let counts: Vec<AtomicUsize> = (0..threads).map(|_| AtomicUsize::new(0)).collect();
            for round in 1..=2000 {
                pool.run(&|index| {
                    counts[index].fetch_add(1, Ordering::Relaxed);
                });
                assert!(counts.iter().all(|count| count.load(Ordering::Relaxed) == round));
            }
        }
    }

    #[test]
    fn workers_come_back_from_sleep() {
        let pool = pool(3);
        let total = AtomicUsize::new(0);
        for _ in 0..20 {
            std::thread::park_timeout(Duration::from_millis(1));
            pool.run(&|index| {
                total.fetch_add(index, Ordering::Relaxed);
            });
        }
        assert_eq!(total.load(Ordering::Relaxed), 20 * 3);
    }

    #[test]
    fn a_panic_reaches_the_caller_and_the_pool_goes_on() {
        let pool = pool(3);
        for bad in 0..3 {
            let result =
                catch_unwind(AssertUnwindSafe(|| pool.run(&|index| assert_ne!(index, bad, "bad index"))));
            assert!(result.is_err());
            let total = AtomicUsize::new(0);
            pool.run(&|index| {
                total.fetch_add(index + 1, Ordering::Relaxed);
            });
            assert_eq!(total.load(Ordering::Relaxed), 6);
        }
    }

    #[test]
    fn a_region_inside_a_region_and_two_callers_do_not_deadlock() {
        let pool = pool(2);
        let total = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    for _ in 0..200 {
                        pool.run(&|_| {
                            pool.run(&|_| {
                                total.fetch_add(1, Ordering::Relaxed);
                            });
                        });
                    }
                });
            }
        });
        assert_eq!(total.load(Ordering::Relaxed), 2 * 200 * 4);
    }

    proptest! {
        #[test]
        fn shares_cover_all_items_in_whole_grains(items in 0usize..5000, grain in 1usize..64, count in 1usize..9) {
            let mut end = 0;
            for index in 0..count {
                let range = share(items, grain, index, count);
                prop_assert_eq!(range.start, end);
                prop_assert!(range.start % grain == 0 || range.is_empty());
                end = range.end;
            }
            prop_assert_eq!(end, items);
        }
    }
}
