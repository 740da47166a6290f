use serde::{Deserialize, Serialize};

use super::Period;
use crate::money::Money;

/// What was used.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sum {
    pub requests: u64,
    pub prompt_tokens: u64,
    pub completion_tokens: u64,
    pub money_nanos: Money,
}

impl Sum {
    pub fn add(&mut self, other: &Self) {
        self.requests = self.requests.saturating_add(other.requests);
        self.prompt_tokens = self.prompt_tokens.saturating_add(other.prompt_tokens);
        self.completion_tokens = self.completion_tokens.saturating_add(other.completion_tokens);
        self.money_nanos = self.money_nanos.plus(other.money_nanos);
    }

    #[must_use]
    pub fn tokens(&self) -> u64 {
        self.prompt_tokens.saturating_add(self.completion_tokens)
    }
}

/// What was used today, this month and ever: whatever a budget is for, it is known.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spent {
    day: Timed,
    month: Timed,
    pub total: Sum,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Timed {
    index: i64,
    sum: Sum,
}

impl Timed {
    /// A clock that is set back never gives anything back: what was used goes on counting, in the later period if that is
    /// near, so that its beginning does not come twice.
    fn at(&self, index: i64) -> Self {
        match self.index - index {
            1.. if self.index - index <= 2 => *self,
            0.. => Self { index, sum: self.sum },
            _ => Self { index, sum: Sum::default() },
        }
    }

    fn add(&mut self, index: i64, sum: &Sum) {
        *self = self.at(index);
        self.sum.add(sum);
    }
}

impl Spent {
    pub fn add(&mut self, wall_ms: i64, sum: &Sum) {
        self.day.add(Period::Day.index(wall_ms), sum);
        self.month.add(Period::Month.index(wall_ms), sum);
        self.total.add(sum);
    }

    /// In the period that this time is in.
    #[must_use]
    pub fn of(&self, period: Period, wall_ms: i64) -> Sum {
        match period {
            Period::Day => self.day.at(period.index(wall_ms)).sum,
            Period::Month => self.month.at(period.index(wall_ms)).sum,
            Period::Total => self.total,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: i64 = 86_400_000;

    fn one() -> Sum {
        Sum { requests: 1, prompt_tokens: 2, ..Sum::default() }
    }

    #[test]
    fn a_new_day_begins_with_nothing() {
        let mut spent = Spent::default();
        spent.add(5 * DAY, &one());
        spent.add(5 * DAY + 1, &one());
        assert_eq!(spent.of(Period::Day, 5 * DAY).requests, 2);
        assert_eq!(spent.of(Period::Day, 6 * DAY).requests, 0);
        spent.add(6 * DAY, &one());
        assert_eq!((spent.of(Period::Day, 6 * DAY).requests, spent.total.requests), (1, 3));
    }

    #[test]
    fn a_clock_that_is_set_back_gives_nothing_back() {
        let mut spent = Spent::default();
        spent.add(6 * DAY, &one());
        spent.add(5 * DAY, &one());
        assert_eq!(spent.of(Period::Day, 5 * DAY).requests, 2);
        assert_eq!(spent.of(Period::Day, 6 * DAY).requests, 2, "midnight comes again and is none");
        spent.add(7 * DAY, &one());
        assert_eq!(spent.of(Period::Day, 7 * DAY).requests, 1);
        // Years ahead by mistake, and back: it is today again, and not free.
        let mut spent = Spent::default();
        spent.add(9000 * DAY, &one());
        spent.add(7 * DAY, &one());
        assert_eq!(spent.of(Period::Day, 7 * DAY).requests, 2);
        assert_eq!(spent.of(Period::Day, 8 * DAY).requests, 0);
    }
}
