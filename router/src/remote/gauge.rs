use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use reprise_tier::{Pressure, TierError};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Bounds the requests under way and those that wait, and counts both.
#[derive(Debug)]
pub struct Gauge {
    /// One permit for each request that is here at all.
    places: Arc<Semaphore>,
    /// One permit for each request that the upstream works on.
    slots: Arc<Semaphore>,
    max_concurrent: usize,
    queue: usize,
    running: Arc<AtomicUsize>,
    /// Seconds that an answer takes: an average over answers, each new one weighing a fifth.
    service_seconds: Mutex<Option<f64>>,
}

/// The right to wait for a slot.
#[derive(Debug)]
pub struct Ticket {
    _place: OwnedSemaphorePermit,
    slots: Arc<Semaphore>,
    running: Arc<AtomicUsize>,
}

/// The right to have a request under way. Given back on drop.
#[derive(Debug)]
pub struct Slot {
    ticket: Ticket,
    _slot: OwnedSemaphorePermit,
    pub since: Instant,
}

impl Gauge {
    pub fn new(max_concurrent: usize, queue: usize) -> Self {
        let max_concurrent = max_concurrent.min(Semaphore::MAX_PERMITS / 2);
        let queue = queue.min(Semaphore::MAX_PERMITS / 2);
        Self {
            places: Arc::new(Semaphore::new(max_concurrent + queue)),
            slots: Arc::new(Semaphore::new(max_concurrent)),
            max_concurrent,
            queue,
            running: Arc::default(),
            service_seconds: Mutex::new(None),
        }
    }

    /// # Errors
    /// [`TierError::Overloaded`] if the waiting queue is full.
    pub fn enter(&self) -> Result<Ticket, TierError> {
        let place = Arc::clone(&self.places).try_acquire_owned().map_err(|_| TierError::Overloaded {
            retry_after: Duration::from_secs_f64(self.pressure().queued_seconds.clamp(1.0, 60.0)),
        })?;
        Ok(Ticket { _place: place, slots: Arc::clone(&self.slots), running: Arc::clone(&self.running) })
    }

    pub fn note_service(&self, seconds: f64) {
        let mut mean = self.service_seconds.lock();
        *mean = Some(mean.map_or(seconds, |mean| mean + 0.2 * (seconds - mean)));
    }

    pub fn pressure(&self) -> Pressure {
        let here = (self.max_concurrent + self.queue).saturating_sub(self.places.available_permits());
        let running = self.running.load(Ordering::Relaxed).min(here);
        let waiting = here - running;
        let service = self.service_seconds.lock().unwrap_or(0.0);
        // Slots come free every `service / max_concurrent` seconds; one in front of each that waits, and one for the
        // next request.
        let queued_seconds = if running < self.max_concurrent {
            0.0
        } else {
            (waiting + 1) as f64 * service / self.max_concurrent as f64
        };
        Pressure { waiting, running, queue_capacity: self.queue, queued_seconds, ..Pressure::default() }
    }
}

impl Ticket {
    /// Waits for a slot, first come first served.
    pub async fn slot(self) -> Result<Slot, TierError> {
        let slot = Arc::clone(&self.slots).acquire_owned().await.map_err(|_| TierError::ShuttingDown)?;
        self.running.fetch_add(1, Ordering::Relaxed);
        Ok(Slot { ticket: self, _slot: slot, since: Instant::now() })
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.ticket.running.fetch_sub(1, Ordering::Relaxed);
    }
}
