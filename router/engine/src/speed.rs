//! What the tier knows of its own load, readable at any time without a lock.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};

use reprise_tier::Pressure;

/// Weight of the newest measurement in the moving averages of speeds, and of answers' lengths.
const ALPHA: f64 = 0.1;
const COMPLETION_ALPHA: f64 = 0.2;
/// Fewer prompt tokens than these measure overhead, not speed.
const MIN_PREFILL: usize = 16;
/// Batches of 1, 2, 3 to 4, 5 to 8 and so on have each their own speed: they share the reading of the weights.
const BATCHES: usize = 10;

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
    max_sequences: usize,
    waiting: AtomicUsize,
    waiting_prefill: AtomicU64,
    waiting_decode: AtomicU64,
    running: AtomicUsize,
    running_prefill: AtomicU64,
    running_decode: AtomicU64,
    kv_blocks: AtomicUsize,
    /// From here on, bits of an f64. A share in [0, 1], and rows.
    kv_used: AtomicU64,
    depth: AtomicU64,
    /// Tokens per second: of a prompt, and of a batch, all its sequences together.
    prefill_speed: AtomicU64,
    decode_speed: [AtomicU64; BATCHES],
    /// Tokens of an answer.
    completion: AtomicU64,
}

impl Meter {
    pub(crate) fn new(queue_capacity: usize, max_sequences: usize) -> Self {
        let zero = || AtomicU64::new(0f64.to_bits());
        Self {
            queue_capacity,
            max_sequences: max_sequences.max(1),
            waiting: AtomicUsize::new(0),
            waiting_prefill: AtomicU64::new(0),
            waiting_decode: AtomicU64::new(0),
            running: AtomicUsize::new(0),
            running_prefill: AtomicU64::new(0),
            running_decode: AtomicU64::new(0),
            kv_blocks: AtomicUsize::new(0),
            kv_used: zero(),
            depth: zero(),
            prefill_speed: zero(),
            decode_speed: std::array::from_fn(|_| zero()),
            completion: AtomicU64::new(64f64.to_bits()),
        }
    }

    pub(crate) fn set_waiting(&self, count: usize, work: Work) {
        self.waiting.store(count, Relaxed);
        self.waiting_prefill.store(work.prefill, Relaxed);
        self.waiting_decode.store(work.decode, Relaxed);
    }

    /// `kv_used` in [0, 1]; `depth` of the micro-queues, in rows.
    pub(crate) fn set_running(&self, count: usize, work: Work, kv_used: f64, depth: f64) {
        self.running.store(count, Relaxed);
        self.running_prefill.store(work.prefill, Relaxed);
        self.running_decode.store(work.decode, Relaxed);
        self.kv_used.store(kv_used.to_bits(), Relaxed);
        self.depth.store(depth.to_bits(), Relaxed);
    }

    /// Blocks of the KV memory, all devices together.
    pub(crate) fn set_kv_blocks(&self, blocks: usize) {
        self.kv_blocks.store(blocks, Relaxed);
    }

    /// A tick computed one token for each of `decode` sequences and `prefill` tokens of prompts. Where both were in it, those
    /// of prompts get the time that is left when the others took what they take alone.
    pub(crate) fn measured_tick(&self, decode: usize, prefill: usize, seconds: f64) {
        let seconds = seconds.max(1e-9);
        if prefill == 0 {
            if decode > 0 {
                average(&self.decode_speed[batch(decode)], decode as f64 / seconds, ALPHA);
            }
            return;
        }
        let speed = self.decode_speed(decode);
        let others = if decode > 0 && speed > 0.0 { decode as f64 / speed } else { 0.0 };
        if prefill >= MIN_PREFILL && seconds > others {
            average(&self.prefill_speed, prefill as f64 / (seconds - others), ALPHA);
        }
    }

    pub(crate) fn measured_completion(&self, tokens: usize) {
        average(&self.completion, tokens as f64, COMPLETION_ALPHA);
    }

    /// The tokens that an answer is expected to have.
    pub(crate) fn expected_completion(&self) -> u64 {
        read(&self.completion).ceil() as u64
    }

    /// Tokens per second of a batch: as measured, or as the next smaller one that was, or the next larger one. 0 if none was.
    fn decode_speed(&self, sequences: usize) -> f64 {
        let at = batch(sequences.max(1));
        let measured = |at: &usize| read(&self.decode_speed[*at]) > 0.0;
        let found = (0..=at).rev().find(measured).or_else(|| (at..BATCHES).find(measured));
        found.map_or(0.0, |at| read(&self.decode_speed[at]))
    }

    pub(crate) fn pressure(&self) -> Pressure {
        let (waiting, running) = (self.waiting.load(Relaxed), self.running.load(Relaxed));
        Pressure {
            waiting,
            running,
            places: self.max_sequences,
            queue_capacity: self.queue_capacity,
            queued_seconds: self.queued_seconds(waiting + running),
            micro_queue_depth: read(&self.depth),
            kv_used: read(&self.kv_used),
            kv_blocks: self.kv_blocks.load(Relaxed),
        }
    }

    /// While there is a place free, a request starts behind the prompts that are there. Else so many of `ahead` must end first
    /// that a place becomes free; with all their work done in T seconds, k of them are by about T k / ahead.
    fn queued_seconds(&self, ahead: usize) -> f64 {
        let seconds = |tokens: u64, speed: f64| if speed > 0.0 { tokens as f64 / speed } else { 0.0 };
        let prefill = self.waiting_prefill.load(Relaxed) + self.running_prefill.load(Relaxed);
        let prefill = seconds(prefill, read(&self.prefill_speed));
        if ahead < self.max_sequences {
            return prefill;
        }
        let decode = self.waiting_decode.load(Relaxed) + self.running_decode.load(Relaxed);
        let all = prefill + seconds(decode, self.decode_speed(self.max_sequences));
        all * (ahead - self.max_sequences + 1) as f64 / ahead as f64
    }
}

fn batch(sequences: usize) -> usize {
    (sequences.max(1).next_power_of_two().trailing_zeros() as usize).min(BATCHES - 1)
}

fn read(cell: &AtomicU64) -> f64 {
    f64::from_bits(cell.load(Relaxed))
}

/// Only the worker writes, so a load and a store suffice.
fn average(cell: &AtomicU64, value: f64, weight: f64) {
    let old = read(cell);
    let new = if old > 0.0 { old + weight * (value - old) } else { value };
    cell.store(new.to_bits(), Relaxed);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_are_tokens_over_measured_speed() {
        let meter = Meter::new(4, 1);
        meter.set_waiting(2, Work { prefill: 300, decode: 20 });
        assert_eq!(meter.pressure().queued_seconds, 0.0);
        meter.measured_tick(0, 100, 0.5);
        meter.measured_tick(1, 0, 0.1);
        meter.set_running(1, Work { prefill: 100, decode: 10 }, 0.25, 3.0);
        let pressure = meter.pressure();
        assert!((pressure.queued_seconds - (400.0 / 200.0 + 30.0 / 10.0)).abs() < 1e-9);
        assert_eq!((pressure.waiting, pressure.running, pressure.queue_capacity), (2, 1, 4));
        assert_eq!((pressure.kv_used, pressure.micro_queue_depth), (0.25, 3.0));
    }

    #[test]
    fn few_tokens_are_no_measurement() {
        let meter = Meter::new(1, 1);
        meter.measured_tick(0, 100, 1.0);
        meter.measured_tick(0, 1, 1.0);
        meter.set_waiting(1, Work { prefill: 100, decode: 0 });
        assert!((meter.pressure().queued_seconds - 1.0).abs() < 1e-9);
    }

    #[test]
    fn a_free_place_is_waited_for_and_no_more() {
        let meter = Meter::new(8, 4);
        meter.measured_tick(0, 100, 1.0);
        meter.measured_tick(4, 0, 0.1);
        meter.set_running(3, Work { prefill: 50, decode: 90 }, 0.0, 0.0);
        assert!((meter.pressure().queued_seconds - 0.5).abs() < 1e-9, "behind the prompts");
        meter.set_running(4, Work { prefill: 0, decode: 80 }, 0.0, 0.0);
        meter.set_waiting(1, Work { prefill: 100, decode: 40 });
        // 1 s of prompts and 120 tokens at 40 a second; two of five must end.
        assert!((meter.pressure().queued_seconds - 4.0 * 2.0 / 5.0).abs() < 1e-9);
    }

    #[test]
    fn prompts_beside_decoding_get_the_rest_of_the_time() {
        let meter = Meter::new(8, 4);
        meter.measured_tick(4, 0, 0.1);
        meter.measured_tick(4, 100, 0.6);
        meter.set_waiting(1, Work { prefill: 100, decode: 0 });
        assert!((meter.pressure().queued_seconds - 0.5).abs() < 1e-9);
        // A batch that was never seen is taken for one of the nearest size.
        assert!((meter.decode_speed(16) - 40.0).abs() < 1e-9 && (meter.decode_speed(1) - 40.0).abs() < 1e-9);
    }
}
