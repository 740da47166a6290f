//! What was used in the last minute, by the second.
//!
//! ```text
//! admitted at second s:  sum over seconds s - 60 ..= s, with it, <= limit
//! ```
//!
//! 61 whole seconds cover any 60 seconds up to now, so that the limit holds for every minute, not only for those that begin
//! on a mark. A bucket that refills evenly would let twice the limit through in the minute after a pause.

use std::collections::VecDeque;
use std::time::Duration;

use serde::{Deserialize, Serialize};

const SPAN: u64 = 60;

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Window {
    /// Oldest first; none is older than the span when [`Self::forget`] has been called.
    slots: VecDeque<Slot>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Slot {
    second: u64,
    requests: u64,
    tokens: u64,
}

/// Which of the two counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Count {
    Requests,
    Tokens,
}

impl Slot {
    fn of(&self, count: Count) -> u64 {
        match count {
            Count::Requests => self.requests,
            Count::Tokens => self.tokens,
        }
    }
}

impl Window {
    pub fn forget(&mut self, now: u64) {
        while self.slots.front().is_some_and(|slot| slot.second + SPAN < now) {
            self.slots.pop_front();
        }
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// Counts them now; returns the second that they are counted at.
    pub fn add(&mut self, now: u64, requests: u64, tokens: u64) -> u64 {
        self.forget(now);
        match self.slots.back_mut() {
            Some(last) if last.second >= now => {
                last.requests = last.requests.saturating_add(requests);
                last.tokens = last.tokens.saturating_add(tokens);
                last.second
            }
            _ => {
                self.slots.push_back(Slot { second: now, requests, tokens });
                now
            }
        }
    }

    /// Tokens that were counted at that second were not used.
    pub fn give_back(&mut self, second: u64, tokens: u64) {
        if let Some(slot) = self.slots.iter_mut().find(|slot| slot.second == second) {
            slot.tokens = slot.tokens.saturating_sub(tokens);
        }
    }

    #[must_use]
    pub fn sum(&self, count: Count, now: u64) -> u64 {
        let recent = self.slots.iter().filter(|slot| slot.second + SPAN >= now);
        recent.fold(0, |sum, slot| sum.saturating_add(slot.of(count)))
    }

    /// Until `need` fits under `limit`; `None` if it never will.
    #[must_use]
    pub fn wait(&self, count: Count, limit: u64, need: u64, now: u64) -> Option<Duration> {
        let room = limit.checked_sub(need)?;
        let mut sum = self.sum(count, now);
        if sum <= room {
            return Some(Duration::ZERO);
        }
        for slot in self.slots.iter().filter(|slot| slot.second + SPAN >= now) {
            sum = sum.saturating_sub(slot.of(count));
            if sum <= room {
                return Some(Duration::from_secs(slot.second + SPAN + 1 - now));
            }
        }
        None
    }

    /// Until nothing of it counts any more.
    #[must_use]
    pub fn reset(&self, count: Count, now: u64) -> Duration {
        let last = self.slots.iter().rev().find(|slot| slot.of(count) > 0);
        Duration::from_secs(last.map_or(0, |slot| (slot.second + SPAN + 1).saturating_sub(now)))
    }

    /// Seconds after `now` become `now`: a file may come from a machine whose clock was ahead.
    pub fn not_after(&mut self, now: u64) {
        for slot in &mut self.slots {
            slot.second = slot.second.min(now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_a_minute_old_no_longer_counts() {
        let mut window = Window::default();
        window.add(100, 1, 10);
        window.add(130, 1, 20);
        assert_eq!((window.sum(Count::Tokens, 160), window.sum(Count::Tokens, 161)), (30, 20));
        assert_eq!(window.wait(Count::Tokens, 30, 10, 140), Some(Duration::from_secs(21)));
        assert_eq!(window.wait(Count::Tokens, 30, 30, 140), Some(Duration::from_secs(51)));
        assert_eq!(window.wait(Count::Tokens, 30, 31, 140), None);
        assert_eq!(window.reset(Count::Requests, 140), Duration::from_secs(51));
    }

    #[test]
    fn what_was_not_used_is_given_back_where_it_was_taken() {
        let mut window = Window::default();
        window.add(100, 1, 50);
        window.add(110, 1, 5);
        window.give_back(100, 42);
        assert_eq!(window.sum(Count::Tokens, 120), 13);
        window.give_back(100, 8);
        window.give_back(99, 8);
        assert_eq!(window.sum(Count::Tokens, 120), 5);
    }
}
