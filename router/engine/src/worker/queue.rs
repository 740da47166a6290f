use std::{collections::VecDeque, num::NonZeroUsize, time::Instant};

use parking_lot::{Condvar, Mutex};
use reprise_tier::{EventSender, GenerateRequest, Priority, TierError};

use crate::speed::{Meter, Work};

/// A request that waits.
#[derive(Debug)]
pub(crate) struct Job {
    pub(crate) request: GenerateRequest,
    pub(crate) events: EventSender,
    pub(crate) submitted: Instant,
    /// Estimated.
    pub(crate) work: Work,
}

/// The waiting requests of a tier: bounded, interactive before batch, each lane in order of arrival.
#[derive(Debug)]
pub(crate) struct Queue {
    lanes: Mutex<Lanes>,
    filled: Condvar,
    capacity: usize,
}

#[derive(Debug, Default)]
struct Lanes {
    interactive: VecDeque<Job>,
    batch: VecDeque<Job>,
    closed: Option<TierError>,
}

impl Queue {
    pub(crate) fn new(capacity: NonZeroUsize) -> Self {
        Self { lanes: Mutex::default(), filled: Condvar::new(), capacity: capacity.get() }
    }

    /// Adds a job. False if as many wait already, once those were dropped that wait for nobody.
    pub(crate) fn push(&self, job: Job, meter: &Meter) -> Result<bool, TierError> {
        let mut lanes = self.lanes.lock();
        if let Some(error) = &lanes.closed {
            return Err(error.clone());
        }
        if lanes.len() >= self.capacity {
            lanes.sweep(Instant::now());
        }
        let fits = lanes.len() < self.capacity;
        if fits {
            match job.request.priority {
                Priority::Interactive => lanes.interactive.push_back(job),
                Priority::Batch => lanes.batch.push_back(job),
            }
        }
        lanes.report(meter);
        drop(lanes);
        self.filled.notify_one();
        Ok(fits)
    }

    /// Waits for the next job; `None` once closed.
    pub(crate) fn pop(&self, meter: &Meter) -> Option<Job> {
        let mut lanes = self.lanes.lock();
        loop {
            if lanes.closed.is_some() {
                return None;
            }
            lanes.sweep(Instant::now());
            let next = lanes.interactive.pop_front().or_else(|| lanes.batch.pop_front());
            lanes.report(meter);
            if next.is_some() {
                return next;
            }
            self.filled.wait(&mut lanes);
        }
    }

    /// Ends those whose deadline passed and drops those whose reader has gone. The worker calls it between
    /// tokens, so that a request that waits behind a long one ends in time.
    pub(crate) fn sweep(&self, meter: &Meter) {
        let mut lanes = self.lanes.lock();
        if lanes.len() > 0 {
            lanes.sweep(Instant::now());
            lanes.report(meter);
        }
    }

    /// Ends all that wait with `error`, and refuses what comes with it.
    pub(crate) fn close(&self, error: &TierError, meter: &Meter) {
        let mut lanes = self.lanes.lock();
        lanes.closed.get_or_insert_with(|| error.clone());
        let Lanes { interactive, batch, .. } = &mut *lanes;
        for job in interactive.drain(..).chain(batch.drain(..)) {
            job.events.send(Err(error.clone()));
        }
        lanes.report(meter);
        drop(lanes);
        self.filled.notify_all();
    }
}

impl Lanes {
    fn len(&self) -> usize {
        self.interactive.len() + self.batch.len()
    }

    fn sweep(&mut self, now: Instant) {
        let waits = |job: &Job| {
            if job.events.is_cancelled() {
                return false;
            }
            let expired = job.request.deadline.is_some_and(|deadline| now >= deadline);
            if expired {
                job.events.send(Err(TierError::DeadlineExceeded));
            }
            !expired
        };
        self.interactive.retain(waits);
        self.batch.retain(waits);
    }

    fn report(&self, meter: &Meter) {
        let mut work = Work::default();
        for job in self.interactive.iter().chain(&self.batch) {
            work.prefill += job.work.prefill;
            work.decode += job.work.decode;
        }
        meter.set_waiting(self.len(), work);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use reprise_tier::{Event, Generation, Sampling, channel};

    use super::*;

    struct Bench {
        queue: Queue,
        meter: Meter,
    }

    impl Bench {
        fn new(capacity: usize) -> Self {
            let capacity = NonZeroUsize::new(capacity).expect("not zero");
            Self { queue: Queue::new(capacity), meter: Meter::new(capacity.get()) }
        }

        fn push(
            &self,
            id: &str,
            priority: Priority,
            deadline: Option<Instant>,
        ) -> (Result<bool, TierError>, Generation) {
            let (events, generation) = channel(4);
            let request = GenerateRequest {
                id: id.into(),
                messages: Vec::new(),
                sampling: Sampling::default(),
                max_tokens: None,
                stop: Vec::new(),
                priority,
                deadline,
                body: None,
            };
            let work = Work { prefill: 10, decode: 1 };
            let job = Job { request, events, submitted: Instant::now(), work };
            (self.queue.push(job, &self.meter), generation)
        }

        fn pop(&self) -> String {
            self.queue.pop(&self.meter).map(|job| job.request.id.to_string()).unwrap_or_default()
        }
    }

    fn first(mut generation: Generation) -> Option<Result<Event, TierError>> {
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("runtime");
        runtime.block_on(generation.next())
    }

    #[test]
    fn interactive_goes_before_batch_each_in_order() {
        let bench = Bench::new(8);
        let order = [
            ("b1", Priority::Batch),
            ("i1", Priority::Interactive),
            ("b2", Priority::Batch),
            ("i2", Priority::Interactive),
        ];
        let kept: Vec<_> = order.map(|(id, priority)| bench.push(id, priority, None)).into_iter().collect();
        assert_eq!(bench.meter.pressure().waiting, 4);
        assert_eq!([(); 4].map(|()| bench.pop()), ["i1", "i2", "b1", "b2"]);
        assert_eq!(bench.meter.pressure().waiting, 0);
        drop(kept);
    }

    #[test]
    fn a_full_queue_refuses_until_a_reader_leaves() {
        let bench = Bench::new(2);
        let (_, first) = bench.push("1", Priority::Interactive, None);
        let (_, _second) = bench.push("2", Priority::Batch, None);
        assert!(matches!(bench.push("3", Priority::Interactive, None).0, Ok(false)));
        drop(first);
        let (fourth, _kept) = bench.push("4", Priority::Interactive, None);
        assert!(matches!(fourth, Ok(true)));
        assert_eq!([bench.pop(), bench.pop()], ["4", "2"]);
    }

    #[test]
    fn a_deadline_is_kept_while_waiting() {
        let bench = Bench::new(2);
        let (_, late) = bench.push("late", Priority::Interactive, Some(Instant::now()));
        let (_, _kept) =
            bench.push("kept", Priority::Batch, Some(Instant::now() + Duration::from_secs(3600)));
        bench.queue.sweep(&bench.meter);
        assert_eq!(bench.meter.pressure().waiting, 1);
        assert!(matches!(first(late), Some(Err(TierError::DeadlineExceeded))));
        assert_eq!(bench.pop(), "kept");
    }

    #[test]
    fn closing_ends_and_refuses() {
        let bench = Bench::new(2);
        let (_, waiting) = bench.push("1", Priority::Interactive, None);
        bench.queue.close(&TierError::ShuttingDown, &bench.meter);
        assert!(matches!(first(waiting), Some(Err(TierError::ShuttingDown))));
        assert!(bench.queue.pop(&bench.meter).is_none());
        assert!(matches!(bench.push("2", Priority::Batch, None).0, Err(TierError::ShuttingDown)));
    }
}
