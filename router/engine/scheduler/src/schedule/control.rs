use std::time::Duration;

use super::Pace;
use crate::Moment;

/// How a [`Control`] measures. The defaults spend at most about 1 % of the time on looking at the other pace once they have settled.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ControlConfig {
    /// A measurement lasts at least so long,
    pub window: Duration,
    /// and until so many tokens came.
    pub tokens: u64,
    /// After a change of pace so long is left out.
    pub settle: Duration,
    /// The other pace must be better by this share.
    pub margin: f64,
    /// A trial that is at less than this share of the kept pace ends after a quarter of a window.
    pub hopeless: f64,
    /// Windows between two looks at the other pace: at first, and at most. Eight times as many each time that nothing came of it.
    pub first_hold: u32,
    pub longest_hold: u32,
}

impl Default for ControlConfig {
    fn default() -> Self {
        Self {
            window: Duration::from_millis(400),
            tokens: 512,
            settle: Duration::from_millis(150),
            margin: 0.02,
            hopeless: 0.8,
            first_hold: 2,
            longest_hold: 128,
        }
    }
}

/// Which pace pays, from measurements: keeps one, now and then tries the others for a window each, and changes to one only if it was
/// better by a margin.
///
/// The measure is tokens per sequence and second, the inverse of the mean time between two tokens of one sequence: under full load, where the
/// number of sequences is what fits, it orders as throughput does; under low load, where throughput is what arrives, it still tells
/// which pace answers sooner.
#[derive(Debug, Clone)]
pub struct Control {
    config: ControlConfig,
    /// That is kept, and that there is now: another while one is tried.
    kept: Pace,
    pace: Pace,
    /// Tokens per sequence and second of the pace that is kept.
    rate: Option<f64>,
    /// Others that are tried before the next hold, the next of them last.
    untried: Vec<Pace>,
    hold: u32,
    held: u32,
    /// The trial has been better for one window: it must be for a second, or a few good ticks would decide.
    promising: bool,
    window: Window,
}

/// From tokens to tokens: in lock-step they come all at once, and a window that ended between would count a tick too much or too little.
#[derive(Debug, Clone, Copy, Default)]
struct Window {
    not_before: Moment,
    begun: Option<Moment>,
    seen: Moment,
    tokens: u64,
    sequence_seconds: f64,
}

impl Control {
    #[must_use]
    pub fn new(config: ControlConfig) -> Self {
        let hold = config.first_hold;
        let (kept, pace) = (Pace::Lockstep, Pace::Lockstep);
        let mut control = Self {
            config,
            kept,
            pace,
            rate: None,
            untried: Vec::new(),
            hold,
            held: 0,
            promising: false,
            window: Window::default(),
        };
        control.list_others();
        control
    }

    #[must_use]
    pub const fn pace(&self) -> Pace {
        self.pace
    }

    /// `tokens` came since the last call; `sequences` were being computed meanwhile. Returns the pace to change to.
    pub fn observe(&mut self, now: Moment, tokens: u64, sequences: usize) -> Option<Pace> {
        let window = &mut self.window;
        let Some(begun) = window.begun else {
            if tokens > 0 && now >= window.not_before {
                (window.begun, window.seen) = (Some(now), now);
            }
            return None;
        };
        window.tokens += tokens;
        window.sequence_seconds += now.since(window.seen).as_secs_f64() * sequences as f64;
        window.seen = now;
        let rate = window.tokens as f64 / window.sequence_seconds.max(f64::MIN_POSITIVE);
        let enough = |part: u32| {
            now.since(begun) >= self.config.window / part
                && window.tokens >= self.config.tokens / u64::from(part)
        };
        let hopeless = self.pace != self.kept
            && self.rate.is_some_and(|kept| rate < self.config.hopeless * kept)
            && enough(4);
        if tokens == 0 || !(enough(1) || hopeless) {
            return None;
        }
        self.window = Window { begun: Some(now), seen: now, ..Window::default() };
        if self.pace == self.kept { self.keep(now, rate) } else { self.judge(now, rate) }
    }

    fn keep(&mut self, now: Moment, rate: f64) -> Option<Pace> {
        // Half of the weight is on the newest: the trial that follows must be compared with what was just before it.
        self.rate = Some(self.rate.map_or(rate, |before| 0.5 * (before + rate)));
        self.held += 1;
        if self.held < self.hold {
            return None;
        }
        let other = self.untried.pop()?;
        Some(self.turn(other, now))
    }

    fn judge(&mut self, now: Moment, rate: f64) -> Option<Pace> {
        let better = self.rate.is_none_or(|kept| rate > kept * (1.0 + self.config.margin));
        if better && !self.promising {
            self.promising = true;
            return None;
        }
        (self.held, self.promising) = (0, false);
        if better {
            (self.kept, self.rate) = (self.pace, Some(rate));
            self.hold = self.config.first_hold.max(1) * 2;
            self.list_others();
            return None;
        }
        if self.untried.is_empty() {
            self.hold = (self.hold * 8).clamp(1, self.config.longest_hold);
            self.list_others();
        } else {
            // The others are compared with the same: one window between.
            self.held = self.hold.saturating_sub(1);
        }
        Some(self.turn(self.kept, now))
    }

    fn list_others(&mut self) {
        let all = [Pace::Lockstep, Pace::PingPong, Pace::Free];
        self.untried = all.into_iter().filter(|pace| *pace != self.kept).collect();
    }

    fn turn(&mut self, to: Pace, now: Moment) -> Pace {
        self.pace = to;
        self.window = Window { not_before: Moment(now.0 + self.config.settle), ..Window::default() };
        to
    }
}
