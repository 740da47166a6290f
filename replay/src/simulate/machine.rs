//! Tiers that share one processor, in continuous time.
//!
//! ```text
//! a tier runs at most `slots` sequences; the others wait, first come first served
//! the processor's time is split evenly over the tiers that run anything, and in a tier evenly over its sequences
//! a prefilling sequence does 1 second of its work in 1 second of processor time; n decoding ones together do S(n),
//! S(n) = 1 + (n - 1) * batch_gain: a step that reads the weights once serves all of them
//! ```
//!
//! Prompt tokens that the tier has in its KV memory (a shared instruction line, the same examples) cost nothing but their place.
//! Work is seconds alone on an idle machine: tokens over measured speeds. An approximation of the engine's continuous
//! batching with chunked prefill; `replay/bench/runs` holds a real run beside it.

use std::collections::VecDeque;
use std::str::FromStr;

use reprise_tier::Pressure;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::harness::outcome::Outcome;

/// What a tier can do, measured.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct TierSpeed {
    /// Tokens a second, one sequence alone.
    pub prefill: f64,
    pub decode: f64,
    /// How much of a sequence's decoding another one beside it adds, in [0, 1]: 0 none (compute-bound), 1 all of it.
    pub batch_gain: f64,
    pub slots: usize,
    /// Requests that may wait; more are refused.
    pub queue: usize,
    pub kv_tokens: u32,
    /// True if it has a processor of its own.
    pub apart: bool,
}

/// A tier's speed as a command line says it: `small:prefill=2000,decode=240,batch=0.4,slots=4`.
#[derive(Debug, Clone, PartialEq)]
pub struct NamedSpeed {
    pub tier: String,
    pub speed: TierSpeed,
}

#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("a speed is NAME:prefill=N,decode=N[,batch=G][,slots=N][,queue=N][,kv=N][,apart], not {0:?}")]
pub struct InvalidSpeed(String);

impl FromStr for NamedSpeed {
    type Err = InvalidSpeed;

    fn from_str(text: &str) -> Result<Self, InvalidSpeed> {
        let invalid = || InvalidSpeed(text.to_owned());
        let (tier, parts) = text.split_once(':').filter(|(tier, _)| !tier.is_empty()).ok_or_else(invalid)?;
        let mut speed = TierSpeed {
            prefill: 0.0,
            decode: 0.0,
            batch_gain: 0.0,
            slots: 8,
            queue: 64,
            kv_tokens: 8192,
            apart: false,
        };
        for part in parts.split(',') {
            speed.set(part).ok_or_else(invalid)?;
        }
        let positive = |value: f64| value.is_finite() && value > 0.0;
        let valid = positive(speed.prefill)
            && positive(speed.decode)
            && (0.0..=1.0).contains(&speed.batch_gain)
            && speed.slots > 0;
        if valid { Ok(Self { tier: tier.to_owned(), speed }) } else { Err(invalid()) }
    }
}

impl TierSpeed {
    fn set(&mut self, part: &str) -> Option<()> {
        match part.split_once('=') {
            None if part == "apart" => self.apart = true,
            Some(("prefill", value)) => self.prefill = value.parse().ok()?,
            Some(("decode", value)) => self.decode = value.parse().ok()?,
            Some(("batch", value)) => self.batch_gain = value.parse().ok()?,
            Some(("slots", value)) => self.slots = value.parse().ok()?,
            Some(("queue", value)) => self.queue = value.parse().ok()?,
            Some(("kv", value)) => self.kv_tokens = value.parse().ok()?,
            _ => return None,
        }
        Some(())
    }

    /// S(n): the work that n sequences do decoding together, in units of one alone.
    #[must_use]
    pub fn together(&self, sequences: usize) -> f64 {
        1.0 + (sequences.max(1) as f64 - 1.0) * self.batch_gain
    }

    /// Seconds of one sequence alone.
    #[must_use]
    pub fn alone_s(&self, work: Work) -> f64 {
        f64::from(work.computed()) / self.prefill + f64::from(work.completion.saturating_sub(1)) / self.decode
    }
}

/// One sequence's work.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Work {
    pub prompt: u32,
    /// Of the prompt, tokens that are not computed again.
    pub cached: u32,
    pub completion: u32,
}

impl Work {
    #[must_use]
    pub fn of(outcome: &Outcome) -> Self {
        let Outcome { prompt_tokens, cached_tokens, completion_tokens, .. } = *outcome;
        Self { prompt: prompt_tokens, cached: cached_tokens, completion: completion_tokens }
    }

    fn computed(&self) -> u32 {
        self.prompt.saturating_sub(self.cached)
    }
}

/// What ended, and when what happened to it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Done {
    pub id: usize,
    pub tier: usize,
    /// It left the queue.
    pub started_s: f64,
    /// End of the prefill: the first token.
    pub first_token_s: f64,
    pub end_s: f64,
}

#[derive(Debug, Clone, Copy)]
struct Sequence {
    id: usize,
    work: Work,
    /// Seconds of work left, alone.
    prefill_left: f64,
    decode_left: f64,
    started_s: f64,
    first_token_s: Option<f64>,
}

#[derive(Debug, Clone)]
struct Tier {
    speed: TierSpeed,
    running: Vec<Sequence>,
    waiting: VecDeque<Sequence>,
}

/// All tiers and the time.
#[derive(Debug, Clone)]
pub struct Machine {
    tiers: Vec<Tier>,
    now_s: f64,
}

/// Work that is less than this is done: rounding must not leave a sequence that never ends.
const NOTHING: f64 = 1e-9;

impl Machine {
    #[must_use]
    pub fn new(speeds: &[TierSpeed]) -> Self {
        let tier = |speed: &TierSpeed| Tier { speed: *speed, running: Vec::new(), waiting: VecDeque::new() };
        Self { tiers: speeds.iter().map(tier).collect(), now_s: 0.0 }
    }

    #[must_use]
    pub fn now_s(&self) -> f64 {
        self.now_s
    }

    /// False if the tier's queue is full.
    pub fn submit(&mut self, tier: usize, id: usize, work: Work) -> bool {
        let Some(tier) = self.tiers.get_mut(tier) else { return false };
        if tier.running.len() >= tier.speed.slots && tier.waiting.len() >= tier.speed.queue {
            return false;
        }
        let TierSpeed { prefill, decode, .. } = tier.speed;
        tier.waiting.push_back(Sequence {
            id,
            work,
            prefill_left: f64::from(work.computed()) / prefill,
            // The first token comes with the prefill.
            decode_left: f64::from(work.completion.saturating_sub(1)) / decode,
            started_s: self.now_s,
            first_token_s: None,
        });
        tier.fill(self.now_s);
        true
    }

    /// Lets time pass until `until_s`, or until the first sequence ends, whichever is first.
    pub fn advance(&mut self, until_s: f64) -> Option<Done> {
        loop {
            let rates = self.rates();
            let next = self.next_change(&rates);
            let step = next.map_or(f64::INFINITY, |(_, _, wait)| wait);
            if self.now_s + step > until_s {
                self.pass(until_s - self.now_s, &rates);
                self.now_s = self.now_s.max(until_s);
                return None;
            }
            self.pass(step, &rates);
            self.now_s += step;
            let (tier, index, _) = next?;
            if let Some(done) = self.change(tier, index) {
                return Some(done);
            }
        }
    }

    /// True if nothing runs or waits.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.tiers.iter().all(|tier| tier.running.is_empty() && tier.waiting.is_empty())
    }

    /// As a tier would report it.
    #[must_use]
    pub fn pressure(&self, tier: usize) -> Pressure {
        let Some(tier) = self.tiers.get(tier) else { return Pressure::default() };
        let left = |sequence: &Sequence| sequence.prefill_left + sequence.decode_left;
        let waiting: f64 = tier.waiting.iter().map(left).sum();
        let running: f64 = tier.running.iter().map(left).sum();
        let full = tier.running.len() >= tier.speed.slots;
        let held: u32 = tier.running.iter().map(|s| s.work.prompt.saturating_add(s.work.completion)).sum();
        Pressure {
            waiting: tier.waiting.len(),
            running: tier.running.len(),
            places: tier.speed.slots,
            queue_capacity: tier.speed.queue,
            // With a free slot a request starts at once.
            queued_seconds: if full { waiting + running / tier.speed.slots.max(1) as f64 } else { 0.0 },
            kv_used: (f64::from(held) / f64::from(tier.speed.kv_tokens.max(1))).min(1.0),
            // It counts KV in tokens, and has no micro-queues.
            ..Pressure::default()
        }
    }

    /// Work a second of each running sequence: (prefilling, decoding) of each tier.
    fn rates(&self) -> Vec<(f64, f64)> {
        let sharing = self.tiers.iter().filter(|tier| !tier.speed.apart && !tier.running.is_empty()).count();
        let rate = |tier: &Tier| {
            let count = tier.running.len().max(1) as f64;
            let share = if tier.speed.apart { 1.0 } else { 1.0 / sharing.max(1) as f64 };
            let decoding = tier.running.iter().filter(|s| s.prefill_left <= NOTHING).count();
            let together = tier.speed.together(decoding);
            (share / count, share / count * together)
        };
        self.tiers.iter().map(rate).collect()
    }

    /// The first sequence to end its phase: tier, index, seconds from now.
    fn next_change(&self, rates: &[(f64, f64)]) -> Option<(usize, usize, f64)> {
        let all = self.tiers.iter().zip(rates).enumerate().flat_map(|(tier, (state, rate))| {
            state.running.iter().enumerate().map(move |(index, sequence)| {
                let wait = if sequence.prefill_left > NOTHING {
                    sequence.prefill_left / rate.0
                } else {
                    sequence.decode_left / rate.1
                };
                (tier, index, wait.max(0.0))
            })
        });
        all.min_by(|a, b| a.2.total_cmp(&b.2))
    }

    fn pass(&mut self, seconds: f64, rates: &[(f64, f64)]) {
        for (tier, rate) in self.tiers.iter_mut().zip(rates) {
            for sequence in &mut tier.running {
                if sequence.prefill_left > NOTHING {
                    sequence.prefill_left -= seconds * rate.0;
                } else {
                    sequence.decode_left -= seconds * rate.1;
                }
            }
        }
    }

    /// A sequence has ended its phase: its prefill, or its answer.
    fn change(&mut self, tier: usize, index: usize) -> Option<Done> {
        let now_s = self.now_s;
        let state = self.tiers.get_mut(tier)?;
        let sequence = state.running.get_mut(index)?;
        if sequence.first_token_s.is_none() {
            sequence.prefill_left = 0.0;
            sequence.first_token_s = Some(now_s);
            if sequence.decode_left > NOTHING {
                return None;
            }
        }
        let ended = state.running.remove(index);
        state.fill(now_s);
        let first_token_s = ended.first_token_s.unwrap_or(now_s);
        Some(Done { id: ended.id, tier, started_s: ended.started_s, first_token_s, end_s: now_s })
    }
}

impl Tier {
    fn fill(&mut self, now_s: f64) {
        while self.running.len() < self.speed.slots {
            let Some(next) = self.waiting.pop_front() else { return };
            self.running.push(Sequence { started_s: now_s, ..next });
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn speed() -> TierSpeed {
        TierSpeed {
            prefill: 100.0,
            decode: 10.0,
            batch_gain: 0.0,
            slots: 2,
            queue: 4,
            kv_tokens: 1000,
            apart: false,
        }
    }

    fn run_out(machine: &mut Machine) -> Vec<Done> {
        std::iter::from_fn(|| machine.advance(f64::INFINITY)).collect()
    }

    #[test]
    fn one_alone_takes_its_own_time() {
        let mut machine = Machine::new(&[speed()]);
        assert!(machine.submit(0, 7, Work { prompt: 200, cached: 0, completion: 11 }));
        let done = run_out(&mut machine);
        assert_eq!(done.len(), 1);
        assert!((done[0].first_token_s - 2.0).abs() < 1e-9 && (done[0].end_s - 3.0).abs() < 1e-9);
        assert!(machine.is_idle());
    }

    #[test]
    fn what_is_in_kv_memory_is_not_computed_again() {
        let work = Work { prompt: 200, cached: 150, completion: 1 };
        let mut machine = Machine::new(&[speed()]);
        machine.submit(0, 0, work);
        // It has its place all the same.
        assert!((machine.pressure(0).kv_used - 0.201).abs() < 1e-9);
        assert!((run_out(&mut machine)[0].end_s - 0.5).abs() < 1e-9);
        assert!((speed().alone_s(work) - 0.5).abs() < 1e-9);
    }

    #[test]
    fn speeds_are_read_and_impossible_ones_refused() {
        let read: NamedSpeed = "small:prefill=2000,decode=240,batch=0.4,slots=4,apart".parse().unwrap();
        assert_eq!((read.tier.as_str(), read.speed.slots, read.speed.apart), ("small", 4, true));
        assert!((read.speed.alone_s(Work { prompt: 1000, cached: 0, completion: 25 }) - 0.6).abs() < 1e-9);
        for text in [
            "small",
            "small:prefill=0,decode=1",
            ":prefill=1,decode=1",
            "a:prefill=1,decode=1,batch=2",
            "a:x=1",
        ] {
            assert!(text.parse::<NamedSpeed>().is_err(), "{text}");
        }
    }

    #[test]
    fn two_share_the_processor_and_a_third_waits() {
        let mut machine = Machine::new(&[speed()]);
        for id in 0..3 {
            assert!(machine.submit(0, id, Work { prompt: 100, cached: 0, completion: 1 }));
        }
        assert_eq!((machine.pressure(0).running, machine.pressure(0).waiting), (2, 1));
        let ends: Vec<f64> = run_out(&mut machine).iter().map(|done| done.end_s).collect();
        // One second each, two at a time at half speed, then the third alone.
        for (end, expected) in ends.iter().zip([2.0, 2.0, 3.0]) {
            assert!((end - expected).abs() < 1e-9, "{ends:?}");
        }
    }

    #[test]
    fn batched_decoding_costs_nothing_where_the_gain_is_one() {
        let work = Work { prompt: 0, cached: 0, completion: 11 };
        let end = |batch_gain| {
            let mut machine = Machine::new(&[TierSpeed { batch_gain, ..speed() }]);
            machine.submit(0, 0, work);
            machine.submit(0, 1, work);
            run_out(&mut machine)[1].end_s
        };
        assert!((end(1.0) - 1.0).abs() < 1e-9);
        assert!((end(0.0) - 2.0).abs() < 1e-9);
        assert!((end(0.5) - 4.0 / 3.0).abs() < 1e-9);
    }

    #[test]
    fn tiers_take_turns_unless_one_stands_apart() {
        let work = Work { prompt: 100, cached: 0, completion: 1 };
        let end = |apart| {
            let mut machine = Machine::new(&[speed(), TierSpeed { apart, ..speed() }]);
            machine.submit(0, 0, work);
            machine.submit(1, 1, work);
            run_out(&mut machine)[1].end_s
        };
        assert!((end(false) - 2.0).abs() < 1e-9);
        assert!((end(true) - 1.0).abs() < 1e-9);
    }

    #[test]
    fn a_full_queue_refuses() {
        let mut machine = Machine::new(&[speed()]);
        let taken =
            (0..9).filter(|id| machine.submit(0, *id, Work { prompt: 10, cached: 0, completion: 1 })).count();
        assert_eq!(taken, 6);
        assert!(machine.pressure(0).queued_seconds > 0.0);
    }

    proptest! {
        /// With no gain from batching, processor sharing loses no work: all ends when the sum of all work is done.
        #[test]
        fn work_is_conserved(jobs in prop::collection::vec((0_u32..500, 1_u32..40, 0_usize..2), 1..12)) {
            let wide = TierSpeed { slots: 3, queue: 64, ..speed() };
            let mut machine = Machine::new(&[wide, wide]);
            let mut work = 0.0;
            for (id, (prompt, completion, tier)) in jobs.iter().enumerate() {
                let job = Work { prompt: *prompt, cached: 0, completion: *completion };
                prop_assert!(machine.submit(*tier, id, job));
                work += f64::from(*prompt) / 100.0 + f64::from(completion - 1) / 10.0;
            }
            let done = run_out(&mut machine);
            prop_assert_eq!(done.len(), jobs.len());
            let last = done.last().map_or(0.0, |done| done.end_s);
            prop_assert!((last - work).abs() < 1e-6, "{} {}", last, work);
            prop_assert!(done.windows(2).all(|pair| pair[0].end_s <= pair[1].end_s + 1e-9));
        }

        /// Where time is cut into pieces does not matter.
        #[test]
        fn looking_in_between_changes_nothing(
            jobs in prop::collection::vec((1_u32..300, 1_u32..30), 1..8), cuts in prop::collection::vec(0.0_f64..20.0, 0..6),
        ) {
            let start = || {
                let mut machine = Machine::new(&[TierSpeed { batch_gain: 0.4, queue: 64, ..speed() }]);
                for (id, (prompt, completion)) in jobs.iter().enumerate() {
                    machine.submit(0, id, Work { prompt: *prompt, cached: 0, completion: *completion });
                }
                machine
            };
            let whole: Vec<Done> = run_out(&mut start());
            let (mut machine, mut pieces) = (start(), Vec::new());
            let mut cuts = cuts;
            cuts.sort_by(f64::total_cmp);
            for cut in cuts {
                while let Some(done) = machine.advance(cut) {
                    pieces.push(done);
                }
            }
            pieces.extend(run_out(&mut machine));
            prop_assert_eq!(whole.len(), pieces.len());
            for (a, b) in whole.iter().zip(&pieces) {
                prop_assert!(a.id == b.id && (a.end_s - b.end_s).abs() < 1e-6);
            }
        }
    }
}
