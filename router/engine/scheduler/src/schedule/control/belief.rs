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

    /// So many windows later.
    fn later(self, windows: u64) -> Self {
        Self { variance: self.variance + DRIFT * DRIFT * windows as f64, ..self }
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

/// Of all modes that were looked at, and in which window last.
#[derive(Debug, Clone, Default)]
pub(super) struct Beliefs(BTreeMap<Mode, (Belief, u64)>);

impl Beliefs {
    fn of(&self, mode: Mode, window: u64) -> Option<Belief> {
        let (belief, then) = self.0.get(&mode)?;
        Some(belief.later(window.saturating_sub(*then)))
    }

    /// Of all looks at a mode, one of them now.
    pub(super) fn with(&self, mode: Mode, seen: Belief, window: u64) -> Belief {
        self.of(mode, window).map_or(seen, |before| before.with(seen))
    }

    /// Whether a look is the first, or tells otherwise than those before: a pause of the machine can have made it so.
    pub(super) fn is_new(&self, mode: Mode, seen: Belief, window: u64) -> bool {
        self.of(mode, window).is_none_or(|before| !before.agrees(seen))
    }

    pub(super) fn learn(&mut self, mode: Mode, belief: Belief, window: u64) {
        self.0.insert(mode, (belief, window));
    }

    /// The kept mode changes to one that compares so with it: all others do otherwise now.
    pub(super) fn change(&mut self, from: Mode, to: Mode, belief: Belief, window: u64) {
        self.0.remove(&to);
        for (other, then) in self.0.values_mut() {
            let now = other.later(window.saturating_sub(*then));
            *other = Belief { mean: now.mean - belief.mean, variance: now.variance + belief.variance };
            *then = window;
        }
        self.learn(from, Belief { mean: -belief.mean, ..belief }, window);
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
            let belief = beliefs.with(mode, seen, window);
            beliefs.learn(mode, belief, window);
        }
        let belief = beliefs.with(mode, Belief::of(1.05, 0.04), 8);
        assert!((belief.mean - 1.05f64.ln()).abs() < 1e-9 && belief.deviation() < 0.02, "{belief:?}");
        assert!(beliefs.with(mode, Belief::of(1.05, 0.04), 10_000).deviation() > 0.039);
        assert_eq!(beliefs.with(mode, Belief::of(0.5, 0.04), 8), Belief::of(0.5, 0.04));
    }

    #[test]
    fn modes_compare_with_whoever_is_kept() {
        let [lockstep, free, ping_pong] = [Pace::Lockstep, Pace::Free, Pace::PingPong].map(Mode::of);
        let mut beliefs = Beliefs::default();
        beliefs.learn(free, Belief::of(0.5, 0.01), 0);
        beliefs.change(lockstep, ping_pong, Belief::of(1.25, 0.01), 0);
        let mean = |mode| beliefs.0[&mode].0.mean.exp();
        assert!((mean(lockstep) - 0.8).abs() < 1e-9 && (mean(free) - 0.4).abs() < 1e-9);
    }
}
