use std::time::Duration;

use super::Limits;
use super::window::Count;
use crate::ledger::State;
use crate::moment::Moment;

/// What is left, as the headers tell it: the tightest of the key's and the tenant's limits by the minute.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Standing {
    pub requests: Option<Left>,
    pub tokens: Option<Left>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Left {
    pub limit: u64,
    pub remaining: u64,
    /// Until all of it is there again.
    pub reset: Duration,
}

impl Standing {
    #[must_use]
    pub fn of(limits: &Limits, state: &State, now: Moment) -> Self {
        let left = |limit: Option<u64>, count| {
            limit.map(|limit| Left {
                limit,
                remaining: limit.saturating_sub(state.window.sum(count, now.second)),
                reset: state.window.reset(count, now.second),
            })
        };
        Self {
            requests: left(limits.requests_per_minute, Count::Requests),
            tokens: left(limits.tokens_per_minute, Count::Tokens),
        }
    }

    #[must_use]
    pub fn tighter(self, other: Self) -> Self {
        let tighter = |a: Option<Left>, b: Option<Left>| match (a, b) {
            (Some(a), Some(b)) => Some(if b.remaining < a.remaining { b } else { a }),
            (a, b) => a.or(b),
        };
        Self { requests: tighter(self.requests, other.requests), tokens: tighter(self.tokens, other.tokens) }
    }
}
