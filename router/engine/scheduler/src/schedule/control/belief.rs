//! How modes compare, from all the times that they were looked at.

use std::collections::BTreeMap;

use crate::schedule::Mode;

/// A mode's worth over the kept one's: the logarithm, normally distributed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Belief {
    pub(super) mean: f64,
    variance: f64,
}

/// By so much a comparison may change in a window, as a share: a standard deviation. Loads change.
const DRIFT: f64 = 0.004;
/// Standard deviations by which a look is off what was believed when something has changed: it alone counts then.
const CHANGED: f64 = 3.0;
/// By so much a pace may compare otherwise once there are copies: a standard deviation.
const ALIKE: f64 = 0.1;
/// What changes are made for is the best of what was seen, by chance too, and was seen just after it had begun: by this share of its lead it may be off, a
/// standard deviation.
const LED: f64 = 0.45;
/// Ratios below it are all the same.
const LEAST: f64 = 1e-3;

impl Belief {
    /// `error`: a standard deviation, as a share.
    pub(super) fn of(ratio: f64, error: f64) -> Self {
        Self { mean: ratio.max(LEAST).ln(), variance: error * error }
    }

    pub(super) fn deviation(self) -> f64 {
        self.variance.sqrt()
    }

    /// By so many standard deviations.
    pub(super) fn is_behind(self, clear: f64) -> bool {
        self.mean + clear * self.deviation() < 0.0
    }

    /// So many windows later.
    fn later(self, windows: u64) -> Self {
        self.doubted(DRIFT * (windows as f64).sqrt())
    }

    /// It may be off by another so much: a standard deviation.
    fn doubted(self, by: f64) -> Self {
        Self { variance: self.variance + by * by, ..self }
    }

    /// How what this is of compares with what that is of.
    fn over(self, that: Self) -> Self {
        Self { mean: self.mean - that.mean, variance: self.variance + that.variance }
    }

    /// What was seen now may have come of the same.
    fn agrees(self, seen: Self) -> bool {
        (seen.mean - self.mean).powi(2) <= CHANGED * CHANGED * (self.variance + seen.variance)
    }

    /// With what was seen now.
    fn with(self, seen: Self) -> Self {
        let (off, both) = (seen.mean - self.mean, self.variance + seen.variance);
        if both <= 0.0 || !self.agrees(seen) {
            return seen;
        }
        Self { mean: self.mean + off * self.variance / both, variance: self.variance * seen.variance / both }
    }
}

/// Of all modes that were looked at.
#[derive(Debug, Clone, Default)]
pub(super) struct Beliefs(BTreeMap<Mode, Known>);

#[derive(Debug, Clone, Copy)]
struct Known {
    belief: Belief,
    /// Of the last look.
    window: u64,
    /// That it comes from, all alike.
    looks: u32,
    /// The last look's, if it saw less than what was believed: a pause of the machine, unless the next look sees it too.
    suspect: Option<Belief>,
}

impl Known {
    const fn first(belief: Belief, window: u64) -> Self {
        Self { belief, window, looks: 1, suspect: None }
    }

    fn later(&self, window: u64) -> Belief {
        self.belief.later(window.saturating_sub(self.window))
    }
}

/// What a look has come to.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Lesson {
    pub(super) belief: Belief,
    /// That told the same; none: this one told less than those before, and is not believed yet.
    pub(super) looks: u32,
}

impl Beliefs {
    /// Of all looks at a mode, one of them now.
    pub(super) fn with(&self, mode: Mode, seen: Belief, window: u64) -> Belief {
        self.0.get(&mode).map_or(seen, |known| known.later(window).with(seen))
    }

    /// Of a mode. Of one that was not looked at yet: with copies its pace is supposed to compare with the kept one's as without, or the other way round.
    pub(super) fn supposed(&self, mode: Mode, kept: Mode, window: u64) -> Option<Belief> {
        let of = |mode: Mode| self.0.get(&mode).map(|known| known.later(window));
        let otherwise = |mode: Mode| of(Mode { copies: !mode.copies, ..mode });
        of(mode).or_else(|| Some(otherwise(mode)?.over(otherwise(kept)?).doubted(ALIKE)))
    }

    /// What is believed of it comes of one look, if of any.
    pub(super) fn is_seen_once(&self, mode: Mode) -> bool {
        self.0.get(&mode).is_none_or(|known| known.looks <= 1)
    }

    /// A look is over. `pauses`: the machine does, which makes a look tell less than there is, never more.
    pub(super) fn learn(&mut self, mode: Mode, seen: Belief, window: u64, pauses: bool) -> Lesson {
        let first = Known::first(seen, window);
        let known = match self.0.get(&mode) {
            None => first,
            Some(known) => {
                let before = known.later(window);
                if before.agrees(seen) {
                    Known { looks: known.looks + 1, ..Known::first(before.with(seen), window) }
                } else if let Some(suspect) = known.suspect.filter(|suspect| suspect.agrees(seen)) {
                    Known { looks: 2, ..Known::first(suspect.with(seen), window) }
                } else if pauses && seen.mean < before.mean {
                    self.0.insert(mode, Known { suspect: Some(seen), ..*known });
                    return Lesson { belief: before, looks: 0 };
                } else {
                    first
                }
            }
        };
        self.0.insert(mode, known);
        Lesson { belief: known.belief, looks: known.looks }
    }

    /// Of a mode that was behind, now that the kept one does so much more or less than it did then; what was seen of it is doubted from now on.
    pub(super) fn may_be_ahead(&mut self, mode: Mode, ratio: f64) -> bool {
        let shift = ratio.max(LEAST).ln().abs();
        let Some(known) = self.0.get_mut(&mode).filter(|known| known.belief.mean + shift > 0.0) else {
            return false;
        };
        known.belief = known.belief.doubted(shift);
        true
    }

    /// The kept mode changes to one that compares so with it: all others do otherwise now.
    pub(super) fn change(&mut self, from: Mode, to: Mode, belief: Belief, window: u64) {
        self.0.remove(&to);
        for known in self.0.values_mut() {
            known.belief = known.later(window).over(belief);
            (known.window, known.suspect) = (window, None);
        }
        let left = Belief { mean: -belief.mean, ..belief }.doubted(LED * belief.mean.abs());
        self.0.insert(from, Known::first(left, window));
    }
}

/// By how much stretches of the same mode differ, those before and after a look: what else the machine does changes slowly.
#[derive(Debug, Clone, Copy)]
pub(super) struct Noise {
    count: f64,
    square: f64,
}

/// As long as there are few stretches: so much, as if there had been so many.
const SUPPOSED: f64 = 0.02;
const WEIGHT: f64 = 2.0;
/// Stretches that it is told from, the last ones.
const MEMORY: f64 = 32.0;
/// What one may add, at most: a load that has turned is not noise.
const MOST: f64 = 0.08;

impl Default for Noise {
    fn default() -> Self {
        Self { count: WEIGHT, square: SUPPOSED * SUPPOSED }
    }
}

impl Noise {
    /// What came after a look over what was before it.
    pub(super) fn add(&mut self, ratio: f64) {
        self.count = (self.count + 1.0).min(MEMORY);
        let off = ratio.max(LEAST).ln().clamp(-MOST, MOST);
        self.square += (off * off - self.square) / self.count;
    }

    /// A standard deviation, as a share.
    pub(super) fn deviation(self) -> f64 {
        self.square.sqrt()
    }

    /// More than what two stretches differ by.
    pub(super) fn is_beyond(self, ratio: f64) -> bool {
        ratio.max(LEAST).ln().abs() > CHANGED * self.deviation()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Pace;

    #[test]
    fn looks_add_up_until_something_changes() {
        let (mut beliefs, mode) = (Beliefs::default(), Mode::of(Pace::PingPong));
        for window in 0..8 {
            let seen = Belief::of(1.05, 0.04);
            let lesson = beliefs.learn(mode, seen, window, true);
            assert_eq!(u64::from(lesson.looks), window + 1);
        }
        let belief = beliefs.with(mode, Belief::of(1.05, 0.04), 8);
        assert!((belief.mean - 1.05f64.ln()).abs() < 1e-9 && belief.deviation() < 0.02, "{belief:?}");
        assert!(beliefs.with(mode, Belief::of(1.05, 0.04), 10_000).deviation() > 0.039);
        assert_eq!(beliefs.with(mode, Belief::of(0.5, 0.04), 8), Belief::of(0.5, 0.04));
    }

    /// What a pause can have made is not believed until it is seen again; what it cannot, at once.
    #[test]
    fn less_than_what_was_believed_must_be_seen_twice() {
        let (mut beliefs, mode) = (Beliefs::default(), Mode::of(Pace::PingPong));
        let mut look = |ratio: f64, pauses| {
            let Lesson { belief, looks } = beliefs.learn(mode, Belief::of(ratio, 0.02), 1, pauses);
            ((belief.mean.exp() * 100.0).round(), looks)
        };
        assert_eq!(look(1.1, true), (110.0, 1));
        assert_eq!(look(0.6, true), (110.0, 0));
        assert_eq!(look(1.1, true), (110.0, 2));
        assert_eq!(look(0.6, true), (110.0, 0));
        assert_eq!(look(0.6, true), (60.0, 2));
        assert_eq!(look(1.1, true), (110.0, 1));
        assert_eq!(look(1.2, true), (120.0, 1));
        assert_eq!(look(0.6, false), (60.0, 1));
    }

    /// Copies bring lock-step 1.4 times as much: the free pace, at half of it without them, is supposed to be at half of it with them.
    #[test]
    fn a_pace_is_supposed_to_compare_with_copies_as_without() {
        let [lockstep, free] = [Pace::Lockstep, Pace::Free].map(Mode::of);
        let [with, free_with] = [lockstep, free].map(|mode| Mode { copies: !mode.copies, ..mode });
        let mut beliefs = Beliefs::default();
        beliefs.learn(free, Belief::of(0.5, 0.01), 0, false);
        assert_eq!(beliefs.supposed(free, lockstep, 0).map(|belief| belief.mean.exp()), Some(0.5));
        assert_eq!(beliefs.supposed(with, lockstep, 0), None);
        beliefs.change(lockstep, with, Belief::of(1.4, 0.01), 0);
        let supposed = beliefs.supposed(free_with, with, 0).expect("of what it is without");
        assert!((supposed.mean.exp() - 0.5).abs() < 1e-9 && supposed.deviation() >= ALIKE, "{supposed:?}");
    }

    #[test]
    fn modes_compare_with_whoever_is_kept() {
        let [lockstep, free, ping_pong] = [Pace::Lockstep, Pace::Free, Pace::PingPong].map(Mode::of);
        let mut beliefs = Beliefs::default();
        beliefs.learn(free, Belief::of(0.5, 0.01), 0, false);
        beliefs.change(lockstep, ping_pong, Belief::of(1.25, 0.01), 0);
        let mean = |mode| beliefs.0[&mode].belief.mean.exp();
        assert!((mean(lockstep) - 0.8).abs() < 1e-9 && (mean(free) - 0.4).abs() < 1e-9);
    }
}
