//! Which mode pays, from measurements.

mod pays;
mod window;

use std::time::Duration;

use super::{Mode, Pace};
use crate::Moment;
use pays::{Costs, Worth};
use window::Window;

/// How a [`Control`] measures. The defaults spend at most about 1 % of the rows on looking at the other modes once they have settled.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ControlConfig {
    /// A measurement lasts at least so long,
    pub window: Duration,
    /// and until so many rows came.
    pub rows: u64,
    /// After a change so long is left out.
    pub settle: Duration,
    /// A mode must be better than the kept one by this share; lock-step, which none may fall behind, and doing without copies need only be
    /// better.
    pub margin: f64,
    /// Standard errors by which a comparison must be clear before it is ended early.
    pub clear: f64,
    /// Windows of a trial that is not clear before, at most: then the mean decides.
    pub longest_trial: u32,
    /// A trial that is at less than this share of the kept mode may end after a quarter of a window.
    pub hopeless: f64,
    /// Windows between two looks at another mode: at first, and at most. Four times as many each time that nothing came of it.
    pub first_hold: u32,
    pub longest_hold: u32,
    /// Share of the rows that looks may cost: a look that cost more than its part is followed by a longer hold.
    pub budget: f64,
}

impl ControlConfig {
    /// Changes of mode all the time: for checks that none changes what is computed.
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

/// Rows that came out of all devices.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RowsOut {
    /// Those with a sequence's next token.
    pub tokens: u64,
    /// All others: of prompts.
    pub prompt: u64,
}

impl RowsOut {
    /// Since so much had come out.
    #[must_use]
    pub const fn since(self, before: Self) -> Self {
        Self {
            tokens: self.tokens.saturating_sub(before.tokens),
            prompt: self.prompt.saturating_sub(before.prompt),
        }
    }
}

impl std::iter::Sum for RowsOut {
    fn sum<I: Iterator<Item = Self>>(all: I) -> Self {
        all.fold(Self::default(), |a, b| Self { tokens: a.tokens + b.tokens, prompt: a.prompt + b.prompt })
    }
}

/// Which mode pays, from measurements: keeps one, now and then tries those that differ from it in one thing, and changes to one only if it is
/// better by a margin.
///
/// The measure is tokens per sequence and second, the inverse of the mean time between two tokens of a sequence, and beside them rows of prompts, at
/// what they cost in the kept mode. Under full load, where the number of sequences is what fits, it orders as throughput does; under low
/// load, where throughput is what arrives, it still tells which mode answers sooner.
///
/// Windows differ among themselves by some per cent: so a trial goes on until its mean differs from the kept mode's by more than their errors (Wald's
/// sequential test, with the windows' own variance), or to its end.
///
/// What is far behind is cheap to tell and dear to look at again: each change has a hold of its own, which grows each time that nothing came of
/// it, and until what its last look cost is earned.
#[derive(Debug, Clone)]
pub struct Control {
    config: ControlConfig,
    /// That is kept, and that there is now: another while one is tried.
    kept: Mode,
    mode: Mode,
    /// Of the mode that is kept, and of the one that is tried: what rows cost, and what their windows were worth, by the costs of the kept one.
    costs: Costs,
    trial_costs: Costs,
    worth: Worth,
    trial: Worth,
    /// The last, until it is over.
    look: Option<Look>,
    changes: Vec<Change>,
    /// Windows of kept modes so far, and since the last trial.
    windows: u64,
    rested: u32,
    /// From when on windows count after a change; none before the first rows then.
    settled: Moment,
    window: Option<Window>,
}

/// One thing that another mode does otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Other {
    Pace(Pace),
    Copies,
}

/// At another mode: a trial between windows of the kept one. What is compared with those before may have come of a load that has changed
/// since, so that those after it have a say too.
#[derive(Debug, Clone, Copy)]
struct Look {
    /// Index of the change.
    at: usize,
    /// From the change until the kept mode has settled again: all that the look costs.
    away: Window,
    is_back: bool,
    trial: Worth,
    /// Of the trial's worth, for what the kept mode's windows do not tell.
    doubt: f64,
    /// Of the kept mode.
    after: Worth,
}

/// Another mode, and when it is looked at.
#[derive(Debug, Clone, Copy)]
struct Change {
    to: Other,
    hold: u32,
    /// In windows of kept modes.
    due: u64,
}

/// Windows that a hold has at most, whatever a look has cost.
const MOST_HELD: f64 = 4096.0;
/// A mode that is behind by so much has half of the budget for itself.
const BEHIND: f64 = 0.1;
/// Tokens of a sequence in a window, at least, unless that takes so many times as long: fewer bursts than these are told too badly.
const BURSTS: f64 = 4.0;
const LONGEST: f64 = 4.0;
/// Tokens of a sequence until a change has settled, at least: one is under way, another meets what the change has left behind.
const UNSETTLED: f64 = 2.0;

/// The ratio from which another mode is better than the kept one.
fn wanted(config: &ControlConfig, kept: Mode, other: Mode) -> f64 {
    if is_plainer(other, kept) { 1.0 } else { 1.0 + config.margin }
}

/// In lock-step instead of another pace; with the same pace, without copies.
fn is_plainer(mode: Mode, than: Mode) -> bool {
    if mode.pace == than.pace { !mode.copies } else { mode.pace == Pace::Lockstep }
}

impl Other {
    /// None: it is no other.
    fn of(self, kept: Mode) -> Option<Mode> {
        match self {
            Self::Pace(pace) => (pace != kept.pace).then_some(Mode { pace, ..kept }),
            Self::Copies => Some(Mode { copies: !kept.copies, ..kept }),
        }
    }
}

impl Control {
    /// `copies`: there are some, so that it may pay to do without.
    #[must_use]
    pub fn new(config: ControlConfig, copies: bool) -> Self {
        let kept = Mode::of(Pace::Lockstep);
        let paces = [Pace::PingPong, Pace::Free, Pace::Lockstep, Pace::Defrag].map(Other::Pace);
        let others = copies.then_some(Other::Copies).into_iter().chain(paces);
        let hold = config.first_hold.max(1);
        let changes = others.map(|to| Change { to, hold, due: u64::from(config.first_hold) }).collect();
        Self {
            config,
            kept,
            mode: kept,
            costs: Costs::default(),
            trial_costs: Costs::default(),
            worth: Worth::default(),
            trial: Worth::default(),
            look: None,
            changes,
            windows: 0,
            rested: 0,
            settled: Moment::default(),
            window: None,
        }
    }

    #[must_use]
    pub const fn mode(&self) -> Mode {
        self.mode
    }

    /// So much came out since the last call; `sequences` were being computed meanwhile. Returns the mode to change to.
    pub fn observe(&mut self, now: Moment, out: RowsOut, sequences: usize) -> Option<Mode> {
        let came = out != RowsOut::default();
        if let Some(look) = self.look.as_mut().filter(|look| !look.is_back) {
            look.away.add(now, out, sequences);
        }
        let Some(window) = &mut self.window else {
            if came && now >= self.settled {
                self.window = Some(Window::begun_at(now));
                if let Some(look) = self.look.as_mut().filter(|_| self.mode == self.kept) {
                    look.is_back = true;
                }
            } else if let Some(look) = self.look.filter(|look| self.is_hopeless(now, &look.away)) {
                return self.judge(now, &look.away);
            }
            return None;
        };
        window.add(now, out, sequences);
        let window = *window;
        if !(came && self.is_whole(&window) || self.is_hopeless(now, &window)) {
            return None;
        }
        self.window = Some(Window::begun_at(now));
        if self.mode == self.kept { self.keep(now, &window) } else { self.judge(now, &window) }
    }

    fn is_whole(&self, window: &Window) -> bool {
        let share = window.seconds() / self.config.window.as_secs_f64();
        let bursts = window.mean_speed().tokens * window.seconds();
        share >= 1.0 && window.rows() >= self.config.rows as f64 && (bursts >= BURSTS || share >= LONGEST)
    }

    /// The trial is far behind after a quarter of a window, told by the rows that the kept mode would have brought meanwhile.
    fn is_hopeless(&self, now: Moment, window: &Window) -> bool {
        let Self { config, kept, mode, costs, settled, .. } = self;
        let share = now.since(window.begun().max(*settled)).as_secs_f64() / config.window.as_secs_f64();
        let expected = costs.speed();
        mode != kept
            && share >= 0.25
            && expected.rows() * window.sequence_seconds() >= config.rows as f64 / 4.0
            && (expected.tokens * window.seconds() >= BURSTS || share >= LONGEST)
            && self.is_far_behind(costs.worth(window.speed()))
    }

    /// Of a window of the trial: at less than what there is hope for, and not by chance.
    fn is_far_behind(&self, last: f64) -> bool {
        let mut one = Worth::default();
        one.add(last);
        let (ratio, error) = self.worth.compare(&one);
        ratio < self.config.hopeless && ratio + self.config.clear * error < 1.0
    }

    fn keep(&mut self, now: Moment, window: &Window) -> Option<Mode> {
        self.costs.add(window.speed());
        let worth = self.costs.worth(window.speed());
        self.worth.add(worth);
        self.windows += 1;
        self.rested += 1;
        if let Some(look) = &mut self.look {
            look.after.add(worth);
        }
        // A trial is compared with what was just before.
        if self.rested < self.config.first_hold.min(2) {
            return None;
        }
        if let Some(look) = self.look.take() {
            self.reconsider(&look);
        }
        let due = |(at, change): (usize, &Change)| {
            let mode = change.to.of(self.kept).filter(|_| change.due <= self.windows)?;
            Some((change.due, at, mode))
        };
        // Of those that are equally late the first.
        let (_, at, mode) = self.changes.iter().enumerate().filter_map(due).min()?;
        let (away, trial, after) = (Window::begun_at(now), Worth::default(), Worth::default());
        self.look = Some(Look { at, away, is_back: false, trial, doubt: 0.0, after });
        Some(self.turn(mode, now))
    }

    fn judge(&mut self, now: Moment, window: &Window) -> Option<Mode> {
        let worth = self.costs.worth(window.speed());
        self.trial_costs.add(window.speed());
        self.trial.add(worth);
        let better = self.is_better(worth)?;
        self.rested = 0;
        if better {
            (self.kept, self.look) = (self.mode, None);
            (self.costs, self.worth) = (self.trial_costs, self.trial.as_unit());
            // What was behind the former may not be behind this one. Who has just been left was seen last.
            let (hold, soon) =
                (self.config.first_hold.max(1), self.windows + 2 * u64::from(self.config.first_hold));
            for change in &mut self.changes {
                (change.hold, change.due) = (hold, change.due.min(soon));
            }
            return None;
        }
        let doubt = self.doubt();
        if let Some(look) = &mut self.look {
            (look.trial, look.doubt) = (self.trial, doubt);
        }
        Some(self.turn(self.kept, now))
    }

    /// A trial has lost, and the kept mode has come to its pace again: when the other is looked at next. What was lost must be earned before.
    fn reconsider(&mut self, look: &Look) {
        let Look { at, away, trial, doubt, after, .. } = look;
        let share = 1.0 - self.costs.worth(away.mean_speed()) / after.mean.max(f64::MIN_POSITIVE);
        let (ratio, error) = after.compare(trial);
        let earned = self.earned(share.max(0.0) * away.seconds(), ratio);
        let Some(change) = self.changes.get_mut(*at) else { return };
        let Some(mode) = change.to.of(self.kept) else { return };
        if ratio - (self.config.clear * error).hypot(*doubt) > wanted(&self.config, self.kept, mode) {
            // It was compared with what is no more.
            (change.hold, change.due, self.worth) = (self.config.first_hold.max(1), self.windows, *after);
        } else {
            change.hold = change.hold.saturating_mul(4).min(self.config.longest_hold.max(1));
            change.due = self.windows + earned.max(u64::from(change.hold));
        }
    }

    /// Of the trial; none: it is not clear yet.
    fn is_better(&self, last: f64) -> Option<bool> {
        let Self { config, worth, trial, .. } = self;
        let wanted = wanted(config, self.kept, self.mode);
        let (ratio, error) = worth.compare(trial);
        let doubt = self.doubt();
        let error = (config.clear * error).hypot(doubt);
        if self.is_far_behind(last) || ratio + error < wanted {
            Some(false)
        } else if trial.count >= 2.0 && ratio - error > wanted {
            Some(true)
        } else {
            (trial.count >= f64::from(config.longest_trial)).then_some(ratio - doubt > wanted)
        }
    }

    /// Of the trial, if it did more of one kind of rows and less of the other than the kept mode ever did. Not of a plainer mode: that is where to go when
    /// in doubt.
    fn doubt(&self) -> f64 {
        if is_plainer(self.mode, self.kept) {
            return 0.0;
        }
        self.config.clear * self.costs.doubt(self.trial_costs.speed())
    }

    /// Windows over which what a look has cost is within the budget; within less of it the farther the other is behind, as it is the less likely
    /// to be ahead the next time.
    fn earned(&self, lost: f64, ratio: f64) -> u64 {
        let Self { config, .. } = self;
        let seconds = lost / config.budget.max(f64::MIN_POSITIVE) * (1.0 + (1.0 - ratio).max(0.0) / BEHIND);
        (seconds / config.window.as_secs_f64().max(1e-3)).min(MOST_HELD) as u64
    }

    fn turn(&mut self, to: Mode, now: Moment) -> Mode {
        (self.mode, self.trial, self.trial_costs) = (to, Worth::default(), Costs::default());
        self.settle(now);
        to
    }

    /// Something other than its mode was done until now: what came of that is not counted.
    pub fn settle(&mut self, now: Moment) {
        let ticks = UNSETTLED / self.costs.speed().tokens.max(f64::MIN_POSITIVE);
        let ticks = ticks.min(LONGEST * self.config.window.as_secs_f64());
        let settle = self.config.settle.max(Duration::from_secs_f64(ticks));
        (self.settled, self.window) = (Moment(now.0 + settle), None);
    }
}
