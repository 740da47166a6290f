//! A circuit breaker for a tier: after several failures in a row it is left alone for a while, and then tried by one request
//! before all others.
//!
//! ```text
//! closed --failures in a row--> open(t) --t over, one request--> half open --it speaks--> closed
//!                                  ^                                 |
//!                                  └────── it fails: t doubles ──────┘
//! ```
//!
//! A client that goes away says nothing of the tier: its pass is given back without a verdict.

use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BreakerConfig {
    /// In a row; 0: it never opens.
    pub failures: u32,
    /// Open for so long at first, twice as long after each failed trial,
    pub open: Duration,
    /// and at most so long.
    pub longest: Duration,
}

impl Default for BreakerConfig {
    fn default() -> Self {
        Self { failures: 5, open: Duration::from_secs(5), longest: Duration::from_secs(60) }
    }
}

#[derive(Debug, Clone)]
pub struct Breaker {
    config: BreakerConfig,
    /// Held for a moment.
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Closed {
        failures: u32,
    },
    Open {
        until: Instant,
        lasts: Duration,
    },
    /// One request tries it.
    HalfOpen {
        lasts: Duration,
    },
}

/// The right to ask the tier once. Dropped without a verdict, it leaves the breaker as it was.
#[derive(Debug)]
pub struct Pass {
    breaker: Breaker,
    /// All others wait for what becomes of this one.
    trial: bool,
}

impl Breaker {
    #[must_use]
    pub fn new(config: BreakerConfig) -> Self {
        Self { config, state: Arc::new(Mutex::new(State::Closed { failures: 0 })) }
    }

    /// A request would get a pass.
    #[must_use]
    pub fn allows(&self, now: Instant) -> bool {
        match *self.state.lock() {
            State::Closed { .. } => true,
            State::Open { until, .. } => now >= until,
            State::HalfOpen { .. } => false,
        }
    }

    /// `None` while it is open, or another request tries it.
    #[must_use]
    pub fn enter(&self, now: Instant) -> Option<Pass> {
        let mut state = self.state.lock();
        let trial = match *state {
            State::Closed { .. } => false,
            State::Open { until, lasts } if now >= until => {
                *state = State::HalfOpen { lasts };
                true
            }
            State::Open { .. } | State::HalfOpen { .. } => return None,
        };
        Some(Pass { breaker: self.clone(), trial })
    }
}

impl Pass {
    /// The tier has begun to answer: reason enough to let others try it, not to forget that it failed.
    pub fn spoke(&mut self) {
        if std::mem::take(&mut self.trial) {
            let failures = self.breaker.config.failures.saturating_sub(1);
            *self.breaker.state.lock() = State::Closed { failures };
        }
    }

    /// The answer was whole.
    pub fn succeeded(mut self) {
        self.spoke();
        if let State::Closed { failures } = &mut *self.breaker.state.lock() {
            *failures = 0;
        }
    }

    pub fn failed(mut self, now: Instant) {
        let trial = std::mem::take(&mut self.trial);
        let BreakerConfig { failures: most, open, longest } = self.breaker.config;
        let mut state = self.breaker.state.lock();
        match *state {
            State::Closed { failures } if most > 0 && failures + 1 >= most => {
                *state = State::Open { until: now + open, lasts: open };
            }
            State::Closed { failures } => *state = State::Closed { failures: failures.saturating_add(1) },
            State::HalfOpen { lasts } if trial => {
                let lasts = lasts.saturating_mul(2).min(longest);
                *state = State::Open { until: now + lasts, lasts };
            }
            // What was asked before it opened tells nothing new.
            State::Open { .. } | State::HalfOpen { .. } => {}
        }
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        if self.trial {
            let mut state = self.breaker.state.lock();
            if let State::HalfOpen { lasts } = *state {
                // The next one may try.
                *state = State::Open { until: Instant::now(), lasts };
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const CONFIG: BreakerConfig =
        BreakerConfig { failures: 3, open: Duration::from_secs(5), longest: Duration::from_secs(12) };

    fn fail(breaker: &Breaker, times: u32, now: Instant) {
        (0..times).for_each(|_| breaker.enter(now).unwrap().failed(now));
    }

    #[test]
    fn it_opens_after_failures_in_a_row_and_one_request_tries_it() {
        let (breaker, begin) = (Breaker::new(CONFIG), Instant::now());
        let after = |seconds| begin + Duration::from_secs(seconds);
        fail(&breaker, 2, begin);
        breaker.enter(begin).unwrap().succeeded();
        fail(&breaker, 2, begin);
        assert!(breaker.allows(begin), "they were not in a row");
        fail(&breaker, 1, begin);
        assert!(!breaker.allows(after(4)) && breaker.enter(after(4)).is_none());
        let trial = breaker.enter(after(5)).unwrap();
        assert!(!breaker.allows(after(5)) && breaker.enter(after(5)).is_none(), "one at a time");
        trial.failed(after(6));
        assert!(!breaker.allows(after(15)), "twice as long");
        breaker.enter(after(16)).unwrap().failed(after(16));
        assert!(!breaker.allows(after(27)) && breaker.allows(after(28)), "at most the longest");
        let mut trial = breaker.enter(after(28)).unwrap();
        trial.spoke();
        assert!(breaker.allows(after(28)), "it speaks: the others may");
        trial.failed(after(29));
        assert!(!breaker.allows(after(29)), "one more failure is enough");
        breaker.enter(after(34)).unwrap().succeeded();
        fail(&breaker, 2, after(34));
        assert!(breaker.allows(after(34)), "all is forgotten");
    }

    #[test]
    fn a_client_that_goes_away_is_no_verdict() {
        let (breaker, begin) = (Breaker::new(CONFIG), Instant::now());
        (0..9).for_each(|_| drop(breaker.enter(begin).unwrap()));
        assert!(breaker.allows(begin));
        fail(&breaker, 3, begin);
        let later = begin + Duration::from_secs(100);
        drop(breaker.enter(later).unwrap());
        assert!(breaker.enter(later).is_some(), "the next one tries");
    }

    #[test]
    fn what_was_asked_before_it_opened_does_not_count_again() {
        let (breaker, begin) = (Breaker::new(CONFIG), Instant::now());
        let (early, late) = (breaker.enter(begin).unwrap(), breaker.enter(begin).unwrap());
        fail(&breaker, 3, begin);
        early.failed(begin + Duration::from_secs(4));
        let trial = breaker.enter(begin + Duration::from_secs(5)).unwrap();
        late.succeeded();
        assert!(!breaker.allows(begin + Duration::from_secs(5)), "the trial decides");
        trial.succeeded();
        assert!(breaker.allows(begin + Duration::from_secs(5)));
    }

    #[test]
    fn switched_off_it_never_opens() {
        let breaker = Breaker::new(BreakerConfig { failures: 0, ..CONFIG });
        fail(&breaker, 1000, Instant::now());
        assert!(breaker.allows(Instant::now()));
    }

    proptest! {
        /// Whatever comes in whatever order, a tier that is well again is asked again.
        #[test]
        fn it_never_stays_open_for_good(steps in prop::collection::vec((0u8..5, 0u64..30), 0..200)) {
            let (breaker, mut now) = (Breaker::new(CONFIG), Instant::now());
            let mut passes = Vec::new();
            for (step, seconds) in steps {
                now += Duration::from_secs(seconds);
                match step {
                    0 | 1 => passes.extend(breaker.enter(now)),
                    2 => passes.drain(..passes.len().min(1)).for_each(|pass| pass.failed(now)),
                    3 => passes.drain(..passes.len().min(1)).for_each(Pass::succeeded),
                    _ => passes.drain(..passes.len().min(1)).for_each(drop),
                }
            }
            passes.clear();
            let pass = breaker.enter(now.max(Instant::now()) + CONFIG.longest);
            prop_assert!(pass.is_some());
        }
    }
}
