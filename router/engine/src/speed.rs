//! What the tier knows of its own load, readable at any time without a lock.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};

use reprise_tier::Pressure;

/// Weight of the newest measurement in the moving averages.
const ALPHA: f64 = 0.2;
/// Fewer tokens than these measure overhead, not speed.
const MIN_PREFILL: usize = 16;
const MIN_DECODE: usize = 4;

/// Tokens still to be computed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Work {
    pub(crate) prefill: u64,
    pub(crate) decode: u64,
}

/// Load and measured speeds of one tier. The queue writes `waiting`, the worker everything else.
#[derive(Debug)]
pub(crate) struct Meter {
    queue_capacity: usize,
    waiting: AtomicUsize,
    waiting_prefill: AtomicU64,
    waiting_decode: AtomicU64,
    running: AtomicUsize,
    running_prefill: AtomicU64,
    running_decode: AtomicU64,
    kv_tokens: AtomicU64,
    kv_capacity: AtomicU64,
    /// Tokens per second and tokens, as bits of an f64.
    prefill_speed: AtomicU64,
    decode_speed: AtomicU64,
    completion: AtomicU64,
}

impl Meter {
    pub(crate) fn new(queue_capacity: usize) -> Self {
        Self {
            queue_capacity,
            waiting: AtomicUsize::new(0),
            waiting_prefill: AtomicU64::new(0),
            waiting_decode: AtomicU64::new(0),
            running: AtomicUsize::new(0),
            running_prefill: AtomicU64::new(0),
            running_decode: AtomicU64::new(0),
            kv_tokens: AtomicU64::new(0),
            kv_capacity: AtomicU64::new(1),
            prefill_speed: AtomicU64::new(0f64.to_bits()),
            decode_speed: AtomicU64::new(0f64.to_bits()),
            completion: AtomicU64::new(64f64.to_bits()),
        }
    }

    pub(crate) fn set_waiting(&self, count: usize, work: Work) {
        self.waiting.store(count, Relaxed);
        self.waiting_prefill.store(work.prefill, Relaxed);
        self.waiting_decode.store(work.decode, Relaxed);
    }

    pub(crate) fn set_running(&self, count: usize, work: Work, kv_tokens: usize) {
        self.running.store(count, Relaxed);
        self.running_prefill.store(work.prefill, Relaxed);
        self.running_decode.store(work.decode, Relaxed);
        self.kv_tokens.store(kv_tokens as u64, Relaxed);
    }

    pub(crate) fn set_kv_capacity(&self, tokens: usize) {
        self.kv_capacity.store(tokens.max(1) as u64, Relaxed);
    }

    pub(crate) fn measured_prefill(&self, tokens: usize, seconds: f64) {
        if tokens >= MIN_PREFILL {
            average(&self.prefill_speed, tokens as f64 / seconds.max(1e-9));
        }
    }

    pub(crate) fn measured_decode(&self, tokens: usize, seconds: f64) {
        if tokens >= MIN_DECODE {
            average(&self.decode_speed, tokens as f64 / seconds.max(1e-9));
        }
    }

    pub(crate) fn measured_completion(&self, tokens: usize) {
        average(&self.completion, tokens as f64);
    }

    /// The tokens that an answer is expected to have.
    pub(crate) fn expected_completion(&self) -> u64 {
        f64::from_bits(self.completion.load(Relaxed)).ceil() as u64
    }

    pub(crate) fn pressure(&self) -> Pressure {
        let seconds = |tokens: u64, speed: &AtomicU64| {
            let speed = f64::from_bits(speed.load(Relaxed));
            if speed > 0.0 { tokens as f64 / speed } else { 0.0 }
        };
        let prefill = self.waiting_prefill.load(Relaxed) + self.running_prefill.load(Relaxed);
        let decode = self.waiting_decode.load(Relaxed) + self.running_decode.load(Relaxed);
        Pressure {
            waiting: self.waiting.load(Relaxed),
            running: self.running.load(Relaxed),
            queue_capacity: self.queue_capacity,
            queued_seconds: seconds(prefill, &self.prefill_speed) + seconds(decode, &self.decode_speed),
            micro_queue_depth: 0.0,
            kv_used: self.kv_tokens.load(Relaxed) as f64 / self.kv_capacity.load(Relaxed) as f64,
        }
    }
}

/// Only the worker writes, so a load and a store suffice.
fn average(cell: &AtomicU64, value: f64) {
    let old = f64::from_bits(cell.load(Relaxed));
    let new = if old > 0.0 { old + ALPHA * (value - old) } else { value };
    cell.store(new.to_bits(), Relaxed);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_are_tokens_over_measured_speed() {
        let meter = Meter::new(4);
        meter.set_waiting(2, Work { prefill: 300, decode: 20 });
        assert_eq!(meter.pressure().queued_seconds, 0.0);
        meter.measured_prefill(100, 0.5);
        meter.measured_decode(10, 1.0);
        meter.set_running(1, Work { prefill: 100, decode: 10 }, 25);
        meter.set_kv_capacity(100);
        let pressure = meter.pressure();
        assert!((pressure.queued_seconds - (400.0 / 200.0 + 30.0 / 10.0)).abs() < 1e-9);
        assert_eq!((pressure.waiting, pressure.running, pressure.queue_capacity), (2, 1, 4));
        assert!((pressure.kv_used - 0.25).abs() < 1e-9);
    }

    #[test]
    fn few_tokens_are_no_measurement() {
        let meter = Meter::new(1);
        meter.measured_prefill(100, 1.0);
        meter.measured_prefill(1, 1.0);
        meter.set_waiting(1, Work { prefill: 100, decode: 0 });
        assert!((meter.pressure().queued_seconds - 1.0).abs() < 1e-9);
    }
}
