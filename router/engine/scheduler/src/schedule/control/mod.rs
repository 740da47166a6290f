//! Which mode pays, from measurements.

mod belief;
mod config;
mod pays;
#[cfg(test)]
mod tests;
mod window;

use std::time::Duration;

use super::{Mode, Pace};
use crate::Moment;
use belief::{Belief, Beliefs, Lesson, Noise};
pub use config::ControlConfig;
use pays::{Costs, Worth};
use window::Window;

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
/// better.
///
/// The measure is tokens per sequence and second, the inverse of the mean time between two tokens of a sequence, and beside them rows of prompts, at
/// what they cost in the kept mode. Under full load, where the number of sequences is what fits, it orders as throughput does; under low
/// load, where throughput is what arrives, it still tells which mode answers sooner.
///
/// Windows differ among themselves, and a machine pauses now and then: so medians of windows are compared, a trial goes on until it is clear or until
/// more windows would tell little, and all looks at a mode add up to what is believed of it (a Kalman filter of one number: how it compares with
/// the kept one). On a machine that pauses, what a look says against all before it, or as the first, is soon asked again. A look with another speed of the
/// kept mode before it than after it tells nothing.
///
/// What is far behind is cheap to tell and dear to look at again: each change has a hold of its own, which grows each time that nothing came of
/// it, and until what its last look cost is earned. Once the kept mode's own speed has shifted, those that may be ahead for that are due.
#[derive(Debug, Clone)]
pub struct Control {
    config: ControlConfig,
    /// That is kept, and that there is now: another while one is tried.
    kept: Mode,
    mode: Mode,
    /// That was kept before, until when there had been so many windows.
    before: Option<Mode>,
    changed: u64,
    regret: Option<Regret>,
    /// Of the mode that is kept, and of the one that is tried: what rows cost, and what their windows were worth, by the costs of the kept one.
    costs: Costs,
    trial_costs: Costs,
    worth: Worth,
    trial: Worth,
    /// Rows per sequence and second of the kept mode's windows.
    rows: Worth,
    /// The last, until it is over.
    look: Option<Look>,
    /// Of all looks so far.
    beliefs: Beliefs,
    noise: Noise,
    /// The last window of a kept mode that a pause has disturbed.
    disturbed: Option<u64>,
    changes: Vec<Change>,
    /// Windows of kept modes so far, and since the last trial; how long the last took.
    windows: u64,
    rested: u32,
    window_seconds: f64,
    /// From when on windows count after a change; none before the first rows then.
    settled: Moment,
    window: Option<Window>,
    /// What is changed to once all rows have come together in lock-step.
    gathers_for: Option<Mode>,
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
    before: Worth,
    after: Worth,
}

/// Another mode, and when it is looked at.
#[derive(Debug, Clone, Copy)]
struct Change {
    to: Other,
    hold: u32,
    /// In windows of kept modes: when it is looked at next, and when what its last look cost is earned.
    due: u64,
    earned: u64,
    /// Seconds of the kept mode that a look at it has cost on average, and how many were counted.
    cost: f64,
    looks: f64,
    /// Rows per sequence and second of the kept mode when it was looked at last; none: not since that is kept, or it is looked at again for that.
    level: Option<f64>,
}

/// A mode that was changed to and soon left again for the one before, so many times in succession: it may be better just after a change than it is later.
#[derive(Debug, Clone, Copy)]
struct Regret {
    of: Mode,
    times: u32,
}

/// Of so many windows the median is one that was not disturbed.
const TOLD: u32 = 3;
/// So many windows after a pause there may be another.
const QUIET: u64 = 512;
/// Windows that a hold has at most, whatever a look has cost.
const MOST_HELD: f64 = 4096.0;
/// Looks that their cost is told from, at most.
const COUNTED: f64 = 4.0;
/// Regrets after which holds grow no more.
const MOST_REGRETS: u32 = 6;
/// A mode that is behind by so much has half of the budget for itself.
const BEHIND: f64 = 0.1;
/// Tokens of a sequence in a window, at least, unless that takes so many times as long: fewer bursts than these are told too badly.
const BURSTS: f64 = 4.0;
const LONGEST: f64 = 4.0;
/// Tokens of a sequence until a change has settled, at least: one is under way, another meets what the change has left behind.
const UNSETTLED: f64 = 2.0;

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
        let due = u64::from(config.first_hold);
        let changes = others
            .map(|to| Change { to, hold, due, earned: 0, cost: 0.0, looks: 0.0, level: None })
            .collect();
        Self {
            config,
            kept,
            mode: kept,
            before: None,
            changed: 0,
            regret: None,
            costs: Costs::default(),
            trial_costs: Costs::default(),
            worth: Worth::default(),
            trial: Worth::default(),
            rows: Worth::default(),
            look: None,
            beliefs: Beliefs::default(),
            noise: Noise::default(),
            disturbed: None,
            changes,
            windows: 0,
            rested: 0,
            window_seconds: config.window.as_secs_f64(),
            settled: Moment::default(),
            window: None,
            gathers_for: None,
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
            if self.gathers_for.is_some() {
                self.mode = self.gathers_for.take_if(|_| came && now >= self.settled)?;
                self.settle(now);
                return Some(self.mode);
            }
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
            && self.is_far_behind(costs.worth(window.speed()), share)
    }

    /// Of so many windows of the trial: at less than what there is hope for, and not by chance.
    fn is_far_behind(&self, worth: f64, windows: f64) -> bool {
        let ratio = worth / self.worth.median().max(f64::MIN_POSITIVE);
        let error = self.worth.error([self.worth.count(), windows]);
        ratio < self.config.hopeless && ratio + self.config.clear * error < 1.0
    }

    fn keep(&mut self, now: Moment, window: &Window) -> Option<Mode> {
        self.costs.add(window.speed());
        let worth = self.costs.worth(window.speed());
        self.worth.add(worth);
        self.rows.add(window.speed().rows());
        self.windows += 1;
        if self.worth.is_disturbed(worth) {
            self.notice_a_pause();
        }
        self.rested += 1;
        self.window_seconds = window.seconds();
        if let Some(look) = &mut self.look {
            look.after.add(worth);
        }
        // A trial is compared with what was just before.
        if self.rested < self.config.first_hold.min(TOLD) {
            return None;
        }
        if let Some(look) = self.look.take() {
            self.reconsider(&look);
        }
        self.notice_a_shift();
        let due = |(at, change): (usize, &Change)| {
            let mode = change.to.of(self.kept).filter(|_| change.due <= self.windows)?;
            Some((change.due, at, mode))
        };
        // Of those that are equally late the first.
        let (_, at, mode) = self.changes.iter().enumerate().filter_map(due).min()?;
        let (away, trial, before, after) =
            (Window::begun_at(now), Worth::default(), self.worth, Worth::default());
        self.look = Some(Look { at, away, is_back: false, trial, doubt: 0.0, before, after });
        Some(self.turn(mode, now))
    }

    fn judge(&mut self, now: Moment, window: &Window) -> Option<Mode> {
        let worth = self.costs.worth(window.speed());
        self.trial_costs.add(window.speed());
        self.trial.add(worth);
        let better = self.is_better(worth)?;
        self.rested = 0;
        if better {
            self.adopt();
            return None;
        }
        let doubt = self.doubt();
        if let Some(look) = &mut self.look {
            (look.trial, look.doubt) = (self.trial, doubt);
        }
        Some(self.turn(self.kept, now))
    }

    /// A trial has won: its mode is kept from now on.
    fn adopt(&mut self) {
        let belief = self.beliefs.with(self.mode, self.seen(), self.windows);
        self.beliefs.change(self.kept, self.mode, belief, self.windows);
        let left = std::mem::replace(&mut self.kept, self.mode);
        let times = self.regrets(left);
        (self.costs, self.worth, self.look) = (self.trial_costs, self.trial.as_unit(), None);
        self.rows = Worth::default();
        let Self { config, kept, beliefs, changes, windows, .. } = self;
        let first = config.first_hold.max(1);
        let after = |hold: u32| *windows + u64::from(hold);
        let soon = 2 * first;
        let later = soon.saturating_mul(1 << times.min(MOST_REGRETS)).min(config.longest_hold.max(soon));
        for change in changes {
            // Rows that came in the mode that was left.
            change.level = None;
            let mode = change.to.of(*kept);
            let is_behind = |mode| {
                let believed = beliefs.supposed(mode, *kept, *windows);
                believed.is_some_and(|belief| belief.is_behind(config.clear))
            };
            // What is surely behind this one too is due when it would have been (the former itself soon, so that who was left by mistake is found
            // again; later each time that it was changed to in vain); what was behind the former only may be ahead of this one.
            if !mode.is_some_and(is_behind) {
                let due = if mode == Some(left) { after(later) } else { change.due.min(after(soon)) };
                (change.hold, change.due, change.looks) = (first, due, 0.0);
            }
        }
    }

    /// `left` was changed from just now: how often in succession it was changed to in vain.
    fn regrets(&mut self, left: Mode) -> u32 {
        let Self { config, kept, before, changed, regret, windows, .. } = self;
        let was_kept = *windows - std::mem::replace(changed, *windows);
        let is_back = before.replace(left) == Some(*kept) && was_kept < u64::from(config.longest_hold);
        *regret = match regret.filter(|_| is_back) {
            // To what is regretted, once more.
            Some(regret) if regret.of == *kept => Some(regret),
            Some(regret) if regret.of == left => Some(Regret { times: regret.times + 1, ..regret }),
            _ => is_back.then_some(Regret { of: left, times: 1 }),
        };
        regret.filter(|regret| regret.of == left).map_or(0, |regret| regret.times)
    }

    /// A trial has lost, and the kept mode has come to its pace again: when the other is looked at next. What was lost must be earned before.
    fn reconsider(&mut self, look: &Look) {
        let Look { at, trial, doubt, before, after, .. } = look;
        let again = before.ratio(after);
        let is_void = self.noise.is_beyond(again);
        self.noise.add(again);
        let Self { config, windows, changes, .. } = self;
        let Some(change) = changes.get_mut(*at) else { return };
        let Some(mode) = change.to.of(self.kept) else { return };
        let first = config.first_hold.max(1);
        if is_void {
            // The machine or the load was not the same before and after: the look tells nothing.
            change.due = *windows + u64::from(first);
            return;
        }
        // With what was just before and just after.
        let ratio = before.ratio(trial) / f64::midpoint(1.0, again).max(f64::MIN_POSITIVE);
        let error = before.error([before.count() + after.count(), trial.count()]);
        let seen = Belief::of(ratio, error.max(self.noise.deviation()));
        let is_behind = |belief: Belief| belief.is_behind(self.config.clear);
        // Whatever the numbers: those of what is far behind differ from look to look.
        let told_before =
            self.beliefs.supposed(mode, self.kept, self.windows).is_some_and(is_behind) && is_behind(seen);
        let pauses = self.pauses() || !before.is_calm();
        let Lesson { belief, looks } = self.beliefs.learn(mode, seen, self.windows, pauses);
        let earned = self.earned(look, belief);
        let mix = self.config.clear * doubt;
        let sure = (self.config.clear * belief.deviation()).hypot(mix);
        let is_no_use = self.is_no_use(belief, mix);
        let Self { config, windows, changes, worth, rows, .. } = self;
        let Some(change) = changes.get_mut(*at) else { return };
        let most = config.longest_hold.max(1);
        let wait;
        (change.hold, wait) = if belief.mean > sure {
            // It was compared with what is no more.
            *worth = *after;
            (first, 0)
        } else if belief.mean > mix {
            // It seems to be ahead: some more looks cost nothing.
            (first, u64::from(first))
        } else if pauses && looks <= 1 && !told_before {
            // It may have met a pause, and be ahead; none is as long as that.
            let hold = first.saturating_mul(4).min(most);
            (hold, u64::from(hold))
        } else {
            // The surer it is behind the longer.
            let times = if belief.mean + sure < 0.0 || is_no_use { 4 } else { 2 };
            let hold = change.hold.saturating_mul(times).min(most);
            (hold, earned.max(u64::from(hold)))
        };
        change.due = *windows + wait;
        (change.earned, change.level) = (*windows + earned, Some(rows.median()));
    }

    /// The machine pauses. What was seen once as long as it seemed not to may have been a pause: it is looked at again.
    fn notice_a_pause(&mut self) {
        let is_known = self.pauses();
        self.disturbed = Some(self.windows);
        if is_known {
            return;
        }
        let Self { config, kept, beliefs, changes, windows, .. } = self;
        let soon = *windows + u64::from(config.first_hold);
        for change in changes {
            if change.to.of(*kept).is_some_and(|mode| beliefs.is_seen_once(mode)) {
                change.due = change.due.min(soon);
            }
        }
    }

    /// It did, not long ago.
    fn pauses(&self) -> bool {
        self.disturbed.is_some_and(|window| self.windows - window < QUIET)
    }

    /// The kept mode does not do what it did when others were looked at, by so much that one of them may be ahead now: it is looked at again, as
    /// soon as its last look is earned.
    fn notice_a_shift(&mut self) {
        let Self { config, kept, rows, beliefs, noise, changes, windows, .. } = self;
        for change in changes.iter_mut().filter(|change| change.due > *windows) {
            let (Some(mode), Some(level)) = (change.to.of(*kept), change.level) else { continue };
            let ratio = rows.median() / level.max(f64::MIN_POSITIVE);
            if noise.is_beyond(ratio) && beliefs.may_be_ahead(mode, ratio) {
                change.hold = config.first_hold.max(1);
                (change.due, change.level) = (change.due.min(change.earned.max(*windows)), None);
            }
        }
    }

    /// Of the trial; none: it is not clear yet.
    fn is_better(&self, last: f64) -> Option<bool> {
        let Self { config, trial, .. } = self;
        let belief = self.beliefs.with(self.mode, self.seen(), self.windows);
        // What the mix of rows makes of it does not become surer by another window.
        let mix = config.clear * self.doubt();
        let sure = (config.clear * belief.deviation()).hypot(mix);
        let told = if self.worth.is_calm() { TOLD - 1 } else { TOLD };
        let is_told = trial.count() >= f64::from(told);
        let is_behind = belief.mean + sure < 0.0 || self.is_no_use(belief, mix);
        if self.is_far_behind(last, 1.0) || is_behind && (is_told || self.worth.is_calm()) {
            Some(false)
        } else if is_told && belief.mean > sure {
            Some(true)
        } else {
            // In doubt for the plainer one.
            let doubt = if is_plainer(self.mode, self.kept) { 0.0 } else { belief.deviation().hypot(mix) };
            (trial.count() >= f64::from(config.longest_trial)).then_some(belief.mean > doubt)
        }
    }

    /// More windows would tell little: it is not ahead, as far as windows can tell, or for its mix of rows alone.
    fn is_no_use(&self, belief: Belief, mix: f64) -> bool {
        belief.mean <= mix && belief.deviation() <= self.config.resolution.max(mix)
    }

    /// Of the trial so far.
    fn seen(&self) -> Belief {
        let error = self.worth.error([self.worth.count(), self.trial.count()]).max(self.noise.deviation());
        Belief::of(self.worth.ratio(&self.trial), error)
    }

    /// Of the trial, if it did more of one kind of rows and less of the other than the kept mode ever did: a standard deviation. Not of a plainer mode:
    /// that is where to go when in doubt.
    fn doubt(&self) -> f64 {
        if is_plainer(self.mode, self.kept) { 0.0 } else { self.costs.doubt(self.trial_costs.speed()) }
    }

    /// Windows over which what such a look costs is within the budget; within less of it the farther the other is behind, as it is the less likely
    /// to be ahead the next time.
    fn earned(&mut self, look: &Look, belief: Belief) -> u64 {
        let Self { config, costs, changes, window_seconds, .. } = self;
        let Some(change) = changes.get_mut(look.at) else { return 0 };
        let seconds = look.away.seconds();
        let share = costs.worth(look.away.mean_speed()) / look.before.median().max(f64::MIN_POSITIVE);
        change.looks = (change.looks + 1.0).min(COUNTED);
        change.cost += ((1.0 - share) * seconds - change.cost) / change.looks;
        // It may be better than it was seen to be; but changing costs too.
        let behind = (1.0 - (belief.mean + belief.deviation()).exp()).max(0.0);
        let cost = change.cost.max(behind * seconds) * (1.0 + behind / BEHIND);
        (cost / config.budget.max(f64::MIN_POSITIVE) / window_seconds.max(1e-3)).min(MOST_HELD) as u64
    }

    /// From one pace without a barrier to another through lock-step: over all queues the former may have scattered its rows so that the other is
    /// at a fraction of its speed for seconds, and would not be what it was when it was chosen.
    fn turn(&mut self, to: Mode, now: Moment) -> Mode {
        self.gathers_for = (self.mode.pace.is_free() && to.pace.is_free()).then_some(to);
        self.mode = self.gathers_for.map_or(to, |to| Mode { pace: Pace::Lockstep, ..to });
        (self.trial, self.trial_costs) = (Worth::default(), Costs::default());
        self.settle(now);
        self.mode
    }

    /// Something other than its mode was done until now: what came of that is not counted.
    pub fn settle(&mut self, now: Moment) {
        let ticks = UNSETTLED / self.costs.speed().tokens.max(f64::MIN_POSITIVE);
        let ticks = ticks.min(LONGEST * self.config.window.as_secs_f64());
        let settle = self.config.settle.max(Duration::from_secs_f64(ticks));
        (self.settled, self.window) = (Moment(now.0 + settle), None);
    }
}
