//! Times of calls, of which medians are taken.

use std::{collections::BTreeMap, ops::RangeBounds};

/// Rounds over everything that is measured, and calls of each thing in one. A machine that is slow for some milliseconds, for a stage's whole curve
/// even, so spoils a round or two of that, and no median.
pub(super) const ROUNDS: usize = 5;
pub(super) const CALLS: usize = 3;

/// Microseconds of calls, by what was called.
#[derive(Debug)]
pub(super) struct Samples<K>(BTreeMap<K, Vec<f64>>);

impl<K> Default for Samples<K> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<K: Ord + Copy> Samples<K> {
    pub(super) fn add(&mut self, of: K, us: f64) {
        self.0.entry(of).or_default().push(us);
    }

    pub(super) fn count(&self, of: K) -> usize {
        self.0.get(&of).map_or(0, Vec::len)
    }

    /// 0 where it was never called.
    pub(super) fn median(&self, of: K) -> f64 {
        self.0.get(&of).map_or(0.0, |times| median(times))
    }

    /// In their order.
    pub(super) fn medians(&self, range: impl RangeBounds<K>) -> impl Iterator<Item = (K, f64)> {
        self.0.range(range).map(|(of, times)| (*of, median(times)))
    }
}

fn median(times: &[f64]) -> f64 {
    let mut times = times.to_vec();
    times.sort_unstable_by(f64::total_cmp);
    times.get(times.len() / 2).copied().unwrap_or(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounds_that_something_else_spoilt_do_not_count() {
        let mut samples = Samples::default();
        for round in 0..ROUNDS {
            let slow = if [1, 3].contains(&round) { 4.0 } else { 1.0 };
            for entries in [1u32, 2] {
                for call in 0..CALLS {
                    let us = slow * (30.0 + f64::from(entries)) + call as f64 * 0.001;
                    samples.add(("expert", entries), us);
                }
            }
        }
        let medians: Vec<_> = samples.medians(("expert", 0)..("gate", 0)).collect();
        assert_eq!(medians.len(), 2);
        for ((_, entries), us) in medians {
            assert!((us - 30.0 - f64::from(entries)).abs() < 0.01, "{entries}: {us}");
        }
        assert_eq!((samples.count(("expert", 1)), samples.count(("gate", 1))), (ROUNDS * CALLS, 0));
        assert_eq!(samples.median(("gate", 1)), 0.0);
    }
}
