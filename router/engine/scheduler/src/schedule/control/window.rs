//! What came out in a stretch of time.

use super::RowsOut;
use crate::Moment;

/// Rows per sequence and second.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Speed {
    pub(super) tokens: f64,
    pub(super) prompt: f64,
}

impl Speed {
    pub(super) fn rows(self) -> f64 {
        self.tokens + self.prompt
    }
}

/// Sums of what happened, each amount times a power of the seconds since the begin.
#[derive(Debug, Clone, Copy, Default)]
struct Moments([f64; 5]);

impl Moments {
    fn add(&mut self, seconds: f64, amount: f64) {
        let mut power = amount;
        for sum in &mut self.0 {
            *sum += power;
            power *= seconds;
        }
    }

    fn whole(&self) -> f64 {
        self.0[0]
    }

    /// Weighted by `30 x^2 (1-x)^2`, `x` from 0 to 1 over so many seconds: of what happens evenly, all of it.
    fn smooth(&self, seconds: f64) -> f64 {
        let [_, _, second, third, fourth] = self.0;
        30.0 * (second - 2.0 * third / seconds + fourth / seconds.powi(2)) / seconds.powi(2)
    }
}

/// A stretch of time, from rows to rows.
///
/// In lock-step rows come in bursts, one a tick, those of prompts before the others and each device's at a time of its own: between any two
/// moments there may be a burst too many or too few. So what comes in the middle counts more than what comes near an end, which errs by a hundredth with
/// four bursts where plain counting errs by a third.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Window {
    begun: Moment,
    seen: Moment,
    tokens: Moments,
    prompt: Moments,
    sequence_seconds: Moments,
}

impl Window {
    pub(super) fn begun_at(now: Moment) -> Self {
        Self { begun: now, seen: now, ..Self::default() }
    }

    pub(super) const fn begun(&self) -> Moment {
        self.begun
    }

    pub(super) fn add(&mut self, now: Moment, out: RowsOut, sequences: usize) {
        let (from, to) = (self.seconds(), now.since(self.begun).as_secs_f64());
        self.tokens.add(to, out.tokens as f64);
        self.prompt.add(to, out.prompt as f64);
        self.sequence_seconds.add(f64::midpoint(from, to), (to - from) * sequences as f64);
        self.seen = now;
    }

    pub(super) fn seconds(&self) -> f64 {
        self.seen.since(self.begun).as_secs_f64()
    }

    pub(super) fn rows(&self) -> f64 {
        self.tokens.whole() + self.prompt.whole()
    }

    pub(super) fn sequence_seconds(&self) -> f64 {
        self.sequence_seconds.whole()
    }

    pub(super) fn speed(&self) -> Speed {
        let seconds = self.seconds();
        if seconds == 0.0 {
            return Speed::default();
        }
        let sequence_seconds = self.sequence_seconds.smooth(seconds).max(f64::MIN_POSITIVE);
        let of = |rows: &Moments| rows.smooth(seconds).max(0.0) / sequence_seconds;
        Speed { tokens: of(&self.tokens), prompt: of(&self.prompt) }
    }

    /// Of all that came, wherever in the window.
    pub(super) fn mean_speed(&self) -> Speed {
        let of = |rows: &Moments| rows.whole() / self.sequence_seconds.whole().max(f64::MIN_POSITIVE);
        Speed { tokens: of(&self.tokens), prompt: of(&self.prompt) }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Bursts of prompts, and of two devices' tokens, at times of their own in each tick: whichever the window begins and ends with.
        #[test]
        fn bursts_are_counted_whatever_they_are_cut_at(
            ticks in 4.0f64..20.0, first in 0.0f64..1.0, second in 0.0f64..1.0, third in 0.0f64..1.0,
        ) {
            let at = |phase: f64, tick: u32| Moment(Duration::from_secs_f64(0.1 * (phase + f64::from(tick))));
            let mut events: Vec<_> = (0..30u32)
                .flat_map(|tick| [(at(first, tick), 4, 0), (at(second, tick), 4, 0), (at(third, tick), 0, 3)])
                .collect();
            events.sort_unstable();
            let mut window = Window::begun_at(events[0].0);
            for (now, tokens, prompt) in &events[1..] {
                window.add(*now, RowsOut { tokens: *tokens, prompt: *prompt }, 8);
                if window.seconds() >= 0.1 * ticks {
                    break;
                }
            }
            let Speed { tokens, prompt } = window.speed();
            // Eight tokens a tick of 0.1 s, of eight sequences.
            prop_assert!((tokens / 10.0 - 1.0).abs() < 0.03, "{}", tokens);
            prop_assert!((prompt / 3.75 - 1.0).abs() < 0.03, "{}", prompt);
        }
    }
}
