use std::time::Duration;

use super::Pace;
use crate::Moment;

/// How a [`Control`] measures. The defaults spend at most about 1 % of the rows on looking at the other paces once they have settled.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ControlConfig {
    /// A measurement lasts at least so long,
    pub window: Duration,
    /// and until so many rows came.
    pub rows: u64,
    /// After a change of pace so long is left out.
    pub settle: Duration,
    /// A pace must be better than the kept one by this share; lock-step, which none may fall behind, need only be better.
    pub margin: f64,
    /// Standard errors by which a comparison must be clear before it is ended early.
    pub clear: f64,
    /// Windows of a trial that is not clear before, at most: then the mean decides.
    pub longest_trial: u32,
    /// A trial that is at less than this share of the kept pace ends after a quarter of a window.
    pub hopeless: f64,
    /// Windows between two rounds of looks at the other paces: at first, and at most. Eight times as many each time that nothing came of it.
    pub first_hold: u32,
    pub longest_hold: u32,
    /// Share of the rows that looks may cost: a round that cost more is followed by a longer hold.
    pub budget: f64,
}

impl ControlConfig {
    /// Changes of pace all the time: for checks that no pace changes what is computed.
    #[must_use]
    pub const fn restless(window: Duration) -> Self {
        Self {
            window,
            rows: 1,
            settle: Duration::from_millis(1),
            margin: 0.0,
            clear: 0.0,
            longest_trial: 1,
            hopeless: 0.0,
            first_hold: 1,
            longest_hold: 1,
            budget: 1.0,
        }
    }
}

impl Default for ControlConfig {
    fn default() -> Self {
        Self {
            window: Duration::from_millis(250),
            rows: 512,
            settle: Duration::from_millis(150),
            margin: 0.02,
            clear: 2.0,
            longest_trial: 6,
            hopeless: 0.8,
            first_hold: 4,
            longest_hold: 128,
            budget: 0.01,
        }
    }
}

/// Which pace pays, from measurements: keeps one, now and then tries the others, and changes to one only if it is better by a margin.
///
/// The measure is rows per sequence and second: for sequences that generate, the inverse of the mean time between two of their tokens. Rows of
/// prompts count as well, or a window would be judged by how many prompts happened to end in it. Under full load, where the
/// number of sequences is what fits, it orders as throughput does; under low load, where throughput is what arrives, it still tells
/// which pace answers sooner.
///
/// Windows differ among themselves by some per cent, for prompts come and go: so a trial goes on until its mean differs from the kept
/// pace's by more than their errors (Wald's sequential test, with the windows' own variance), or to its end.
#[derive(Debug, Clone)]
pub struct Control {
    config: ControlConfig,
    /// That is kept, and that there is now: another while one is tried.
    kept: Pace,
    pace: Pace,
    /// Rows per sequence and second of the pace that is kept, and of the one that is tried.
    rates: Rates,
    trial: Rates,
    /// From the change to another pace until the kept one has settled again: all that looking at it costs.
    away: Option<Window>,
    /// Others that are tried before the next hold, the next of them last.
    untried: Vec<Pace>,
    hold: u32,
    held: u32,
    /// What this round of looks has cost, in seconds of the kept pace.
    lost: f64,
    window: Window,
}

/// Mean and variance of the rates of windows.
#[derive(Debug, Clone, Copy, Default)]
struct Rates {
    count: f64,
    mean: f64,
    variance: f64,
}

/// Windows of the kept pace that count: what comes after them must be compared with what was just before.
const REMEMBERED: f64 = 8.0;
/// Windows that a hold has at most, whatever looks have cost.
const MOST_HELD: u32 = 4096;
/// Before there are enough windows to tell, two of them are taken to differ by this share.
const SPREAD: f64 = 0.02;

impl Rates {
    fn add(&mut self, rate: f64) {
        self.count = (self.count + 1.0).min(REMEMBERED);
        let off = rate - self.mean;
        self.mean += off / self.count;
        self.variance = (1.0 - 1.0 / self.count) * (self.variance + off * off / self.count);
    }

    /// Of both means together, as a share of this one's.
    fn error_beside(&self, other: &Self) -> f64 {
        let assumed = (SPREAD * self.mean).powi(2);
        let squares = self.count * self.variance + other.count * other.variance + 2.0 * assumed;
        let variance = squares / (self.count + other.count).max(1.0);
        (variance * (1.0 / self.count.max(1.0) + 1.0 / other.count.max(1.0))).sqrt() / self.mean
    }
}

/// From rows to rows: in lock-step they come all at once, and a window that ended between would count a tick too much or too little.
#[derive(Debug, Clone, Copy, Default)]
struct Window {
    not_before: Moment,
    begun: Option<Moment>,
    seen: Moment,
    rows: u64,
    sequence_seconds: f64,
}

impl Window {
    fn add(&mut self, now: Moment, rows: u64, sequences: usize) {
        self.rows += rows;
        self.sequence_seconds += now.since(self.seen).as_secs_f64() * sequences as f64;
        self.seen = now;
    }

    fn rate(&self) -> f64 {
        self.rows as f64 / self.sequence_seconds.max(f64::MIN_POSITIVE)
    }
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
            rates: Rates::default(),
            trial: Rates::default(),
            away: None,
            untried: Vec::new(),
            hold,
            held: 0,
            lost: 0.0,
            window: Window::default(),
        };
        control.list_others();
        control
    }

    #[must_use]
    pub const fn pace(&self) -> Pace {
        self.pace
    }

    /// `rows` came out since the last call; `sequences` were being computed meanwhile. Returns the pace to change to.
    pub fn observe(&mut self, now: Moment, rows: u64, sequences: usize) -> Option<Pace> {
        if let Some(away) = &mut self.away {
            away.add(now, rows, sequences);
        }
        let Some(begun) = self.window.begun else {
            if rows > 0 && now >= self.window.not_before {
                (self.window.begun, self.window.seen) = (Some(now), now);
                if self.pace == self.kept {
                    self.is_back(now);
                }
            }
            return None;
        };
        self.window.add(now, rows, sequences);
        let rate = self.window.rate();
        let enough = |part: u32| {
            now.since(begun) >= self.config.window / part
                && self.window.rows >= self.config.rows / u64::from(part)
        };
        let hopeless = self.pace != self.kept && rate < self.config.hopeless * self.rates.mean && enough(4);
        if rows == 0 || !(enough(1) || hopeless) {
            return None;
        }
        self.window = Window { begun: Some(now), seen: now, ..Window::default() };
        if self.pace == self.kept { self.keep(now, rate) } else { self.judge(now, rate) }
    }

    fn keep(&mut self, now: Moment, rate: f64) -> Option<Pace> {
        self.rates.add(rate);
        self.held += 1;
        if self.held < self.hold {
            return None;
        }
        let other = self.untried.pop()?;
        Some(self.turn(other, now))
    }

    fn judge(&mut self, now: Moment, rate: f64) -> Option<Pace> {
        self.trial.add(rate);
        let better = self.is_better(rate)?;
        self.held = 0;
        if better {
            (self.kept, self.rates, self.lost, self.away) = (self.pace, self.trial, 0.0, None);
            self.hold = self.config.first_hold.max(1) * 2;
            self.go_on();
            return None;
        }
        if self.untried.is_empty() {
            self.hold = (self.hold * 8).clamp(1, self.config.longest_hold);
        }
        self.go_on();
        Some(self.turn(self.kept, now))
    }

    /// The kept pace is there again: what was lost meanwhile must be earned before the next round.
    fn is_back(&mut self, now: Moment) {
        let Some(away) = self.away.take() else { return };
        let share = 1.0 - away.rate() / self.rates.mean.max(f64::MIN_POSITIVE);
        self.lost += share.max(0.0) * away.begun.map_or(0.0, |begun| now.since(begun).as_secs_f64());
        // A new round is listed: this one is over.
        if self.held == 0 {
            self.hold = self.hold.max(self.earned());
            self.lost = 0.0;
        }
    }

    /// Of the trial; none: it is not clear yet.
    fn is_better(&self, rate: f64) -> Option<bool> {
        let Self { config, rates, trial, .. } = self;
        let ratio = trial.mean / rates.mean.max(f64::MIN_POSITIVE);
        let wanted = if self.pace == Pace::Lockstep { 1.0 } else { 1.0 + config.margin };
        let error = config.clear * rates.error_beside(trial);
        if rate < config.hopeless * rates.mean || ratio + error < wanted {
            Some(false)
        } else if trial.count >= 2.0 && ratio - error > wanted {
            Some(true)
        } else {
            (trial.count >= f64::from(config.longest_trial)).then_some(ratio > wanted)
        }
    }

    /// Windows over which what the looks have cost is within the budget.
    fn earned(&self) -> u32 {
        let seconds = self.lost / self.config.budget.max(f64::MIN_POSITIVE);
        (seconds / self.config.window.as_secs_f64().max(1e-3)).min(f64::from(MOST_HELD)) as u32
    }

    /// Those that are left of this round are compared with the kept pace after some windows of it; a new round begins after a hold.
    fn go_on(&mut self) {
        if self.untried.is_empty() {
            self.list_others();
        } else {
            self.held = self.hold.saturating_sub(self.config.first_hold.min(2));
        }
    }

    fn list_others(&mut self) {
        // The last first.
        let all = [Pace::Defrag, Pace::Lockstep, Pace::Free, Pace::PingPong];
        self.untried = all.into_iter().filter(|pace| *pace != self.kept).collect();
    }

    fn turn(&mut self, to: Pace, now: Moment) -> Pace {
        if to != self.kept {
            self.away = Some(Window { begun: Some(now), seen: now, ..Window::default() });
        }
        (self.pace, self.trial) = (to, Rates::default());
        self.window = Window { not_before: Moment(now.0 + self.config.settle), ..Window::default() };
        to
    }
}
