//! A team of threads for parallel regions of some microseconds: the calling thread and its workers.
//!
//! Decoding one token runs over a hundred regions of 5 to 50 microseconds each, so that a region must start within a microsecond:
//! a worker spins for a short time after each region before it parks. rayon parks at once and divides work by stealing; a team that
//! spins without end (as OpenMP does) takes the core from other processes.
//!
//! There are as many threads as cores, and other processes run too. An index of the job belongs to a worker, but the caller,
//! once done with its own, takes those that no worker has begun: a worker that sleeps or was preempted between regions holds up nobody.

mod sync;
mod team;

use std::any::Any;
use std::cell::Cell;
use std::num::NonZeroUsize;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{JoinHandle, Thread};

use team::Team;

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
    team: Arc<Team>,
    workers: Vec<Worker>,
    /// One region at a time.
    region: Mutex<()>,
}

#[derive(Debug)]
struct Worker {
    thread: Thread,
    handle: Option<JoinHandle<()>>,
}

impl Pool {
    /// Starts `threads - 1` workers.
    ///
    /// # Errors
    /// When the operating system refuses a thread.
    pub fn new(threads: NonZeroUsize) -> Result<Self, PoolError> {
        let team = Arc::new(Team::new(threads.get() - 1));
        let mut pool = Self { team, workers: Vec::new(), region: Mutex::new(()) };
        for index in 1..threads.get() {
            let team = Arc::clone(&pool.team);
            let handle = std::thread::Builder::new()
                .name(format!("compute-{index}"))
                .spawn(move || team.work(index))
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
        let first: Mutex<Option<Box<dyn Any + Send>>> = Mutex::new(None);
        let caught = |index| {
            INSIDE.set(true);
            let result = catch_unwind(AssertUnwindSafe(|| job(index)));
            INSIDE.set(false);
            if let Err(panic) = result {
                first.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(panic);
            }
        };
        let region = self.region.lock().unwrap_or_else(PoisonError::into_inner);
        self.team.run(&caught, &|worker| self.workers[worker].thread.unpark());
        drop(region);
        if let Some(panic) = first.into_inner().unwrap_or_else(PoisonError::into_inner) {
            resume_unwind(panic);
        }
    }

    /// Calls `job` for each item of `0..items`, by whichever thread is free, with the buffers of its index: for items that take long
    /// beside each other, and for cores that others use too.
    ///
    /// # Panics
    /// As [`Pool::run`]; some items may be left out then.
    pub fn each<B>(
        &self,
        items: usize,
        buffers: impl Fn(usize) -> B + Sync,
        job: impl Fn(usize, &mut B) + Sync,
    ) {
        let next = AtomicUsize::new(0);
        self.run(&|index| {
            let mut buffers = buffers(index);
            loop {
                let item = next.fetch_add(1, Ordering::Relaxed);
                if item >= items {
                    break;
                }
                job(item, &mut buffers);
            }
        });
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.team.stop();
        for worker in &mut self.workers {
            worker.thread.unpark();
            if let Some(handle) = worker.handle.take() {
                // A worker's jobs catch their panics: it cannot have panicked.
                let _ = handle.join();
            }
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
mod tests;
