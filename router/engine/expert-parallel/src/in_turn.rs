//! What calls take among all others of a run, beside what is predicted from their times alone: another share than alone, and large calls another than small ones.

use serde::{Deserialize, Serialize};

use crate::between::between;

/// Shares of calls of a size, at most.
const SHARES: usize = 32;
/// One in so many is left out where what all have in common is told.
const SLOWEST: usize = 50;
/// Predictions that differ by less than this share tell nothing of what does not grow with them.
const ALIKE: f64 = 0.2;
/// Of a stage's time alone at least this share is needed in a run too.
const LEAST_TIMES: f64 = 0.5;
/// Calls of a size take up to so many times as long as the shortest of them.
const SIZE: f64 = 1.5;
/// And are as many, if there are: of fewer a pause of the machine says too much.
const ENOUGH: usize = 200;

/// Of a stage, or of parcels.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(from = "Stored")]
pub struct InTurn {
    /// More, whatever is predicted.
    pub added_us: f64,
    /// And so many times as long, by what was predicted, ascending.
    pub sizes: Vec<OfSize>,
}

/// Of calls that take about as long.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OfSize {
    /// With what is added; their mean.
    pub predicted_us: f64,
    /// How many times as long, of shares of equal predicted time, ascending, so that a few pauses of the machine are the last.
    pub times: Vec<f64>,
}

impl OfSize {
    fn times(&self, drawn: f64) -> f64 {
        self.times.get((drawn * self.times.len() as f64) as usize).copied().unwrap_or(1.0)
    }
}

/// Profiles of before do not tell sizes apart, and those before them not what is added.
#[derive(Deserialize)]
#[serde(untagged)]
enum Stored {
    Times(Vec<f64>),
    Alike { added_us: f64, times: Vec<f64> },
    BySize { added_us: f64, sizes: Vec<OfSize> },
}

impl From<Stored> for InTurn {
    fn from(stored: Stored) -> Self {
        match stored {
            Stored::Times(times) => Self::alike(0.0, times),
            Stored::Alike { added_us, times } => Self::alike(added_us, times),
            Stored::BySize { added_us, sizes } => Self { added_us, sizes },
        }
    }
}

impl InTurn {
    /// Of calls of all sizes; as predicted, where there are no times.
    #[must_use]
    pub fn alike(added_us: f64, times: Vec<f64>) -> Self {
        let sizes = if times.is_empty() { Vec::new() } else { vec![OfSize { predicted_us: 0.0, times }] };
        Self { added_us, sizes }
    }

    /// Of calls' predicted seconds, above 0, and those that they took.
    pub(crate) fn of(mut calls: Vec<(f64, f64)>) -> Self {
        let added = added(&calls);
        calls.iter_mut().for_each(|(predicted, _)| *predicted += added);
        let size = |calls: Vec<(f64, f64)>| {
            let all: f64 = calls.iter().map(|(predicted, _)| predicted).sum();
            OfSize { predicted_us: 1e6 * all / calls.len() as f64, times: shares(calls) }
        };
        Self { added_us: 1e6 * added, sizes: by_size(calls).into_iter().map(size).collect() }
    }

    /// Seconds of a call for which so many are predicted; between two sizes, between what these say. `drawn`: of the shares, in [0, 1).
    #[must_use]
    pub fn seconds(&self, predicted: f64, drawn: f64) -> f64 {
        let seconds = predicted + 1e-6 * self.added_us;
        let us = 1e6 * seconds;
        let times = between(&self.sizes, us, |size| size.predicted_us, |size| size.times(drawn));
        times.map_or(predicted, |times| times * seconds)
    }
}

/// Seconds by which all calls take longer, besides so many times as long: by least squares of `took / predicted` over `1 / predicted`, the slowest left out,
/// in which something else ran. None where calls are too much alike to tell.
fn added(calls: &[(f64, f64)]) -> f64 {
    let mut points: Vec<_> =
        calls.iter().map(|(predicted, took)| (1.0 / predicted, took / predicted)).collect();
    points.sort_unstable_by(|a, b| a.1.total_cmp(&b.1));
    points.truncate(points.len() - points.len() / SLOWEST);
    let count = points.len().max(1) as f64;
    let mean = |of: fn(&(f64, f64)) -> f64| points.iter().map(of).sum::<f64>() / count;
    let (x, y) = (mean(|point| point.0), mean(|point| point.1));
    let square = mean(|point| point.0 * point.0) - x * x;
    let product = mean(|point| point.0 * point.1) - x * y;
    if square <= (ALIKE * x).powi(2) || product <= 0.0 {
        return 0.0;
    }
    let slope = product / square;
    // Some of it is time that grows with what is predicted.
    slope / (y - slope * x).max(LEAST_TIMES)
}

/// Those for which about as much was predicted together, ascending.
fn by_size(mut calls: Vec<(f64, f64)>) -> Vec<Vec<(f64, f64)>> {
    calls.sort_unstable_by(|a, b| a.0.total_cmp(&b.0));
    let mut sizes: Vec<Vec<(f64, f64)>> = Vec::new();
    for call in calls {
        match sizes.last_mut() {
            Some(size) if size.len() < ENOUGH || call.0 < SIZE * size[0].0 => size.push(call),
            _ => sizes.push(vec![call]),
        }
    }
    // Of the largest there may be too few.
    if let [.., size, few] = &mut sizes[..]
        && few.len() < ENOUGH
    {
        size.append(few);
        sizes.pop();
    }
    sizes
}

fn shares(mut calls: Vec<(f64, f64)>) -> Vec<f64> {
    let times = |(predicted, took): &(f64, f64)| took / predicted;
    calls.sort_unstable_by(|a, b| times(a).total_cmp(&times(b)));
    let mut shares = vec![0.0; SHARES.min(calls.len())];
    let each = calls.iter().map(|(predicted, _)| predicted).sum::<f64>() / shares.len() as f64;
    let mut before = 0.0;
    for call in &calls {
        // It may lie in several shares.
        let (begin, end) = (before / each, (before + call.0) / each);
        for (at, share) in shares.iter_mut().enumerate().skip(begin as usize) {
            let part = end.min(at as f64 + 1.0) - begin.max(at as f64);
            if part <= 0.0 {
                break;
            }
            *share += part * times(call);
        }
        before += call.0;
    }
    // Of equal ones a sum may be rounded down.
    for at in 1..shares.len() {
        shares[at] = shares[at].max(shares[at - 1]);
    }
    shares
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_all_calls_have_in_common_is_told_apart() {
        // Three seconds more, then half as long again; a pause, and none where all calls are alike.
        let took = |predicted: f64| 1.5 * (predicted + 3.0);
        let mut calls: Vec<_> = (1..200).map(|n| f64::from(n % 40 + 1)).map(|n| (n, took(n))).collect();
        calls.push((2.0, 4000.0));
        assert!((added(&calls) - 3.0).abs() < 1e-9, "{}", added(&calls));
        assert_eq!(added(&[(10.0, 30.0), (11.0, 33.0), (10.5, 30.0)]), 0.0);
        assert_eq!(added(&[]), 0.0);
    }

    #[test]
    fn shares_are_of_equal_predicted_time() {
        // Three quarters of the time as predicted, a quarter twice as long, and a short call a hundred times.
        let mut calls = vec![(1.0, 1.0); 48];
        calls.extend([(2.0, 4.0); 8]);
        calls.push((1e-6, 1e-4));
        let found = shares(calls);
        assert_eq!(found.len(), SHARES);
        for (at, times) in found.iter().enumerate() {
            let expected = if at < 24 { 1.0 } else { 2.0 };
            assert!((times - expected).abs() < 1e-3, "{at}: {times}");
        }
        assert_eq!(shares(vec![(2.0, 3.0)]), [1.5]);
        // In order, however sums of their parts are rounded.
        for count in 40..400 {
            let found = shares(vec![(0.1, 0.015); count]);
            assert!(found.is_sorted(), "{count}: {found:?}");
        }
        assert!(shares(Vec::new()).is_empty());
    }

    #[test]
    fn large_calls_take_what_large_calls_took() {
        // As predicted, and a third more; few of a third size belong to those.
        let mut calls = vec![(3.0, 4.0); 5 * ENOUGH];
        calls.extend([(1.0, 1.0); ENOUGH]);
        calls.extend([(9.0, 12.0); ENOUGH - 1]);
        let found = InTurn::of(calls);
        assert_eq!(found.sizes.len(), 2);
        let [small, large] = [0, 1].map(|at| 1e-6 * found.sizes[at].predicted_us);
        assert!((small - 1.0).abs() < 1e-9 && large > 3.0 && large < 9.0, "{small}, {large}");
        let middle = (small + large) / 2.0;
        for (predicted, times) in
            [(0.5, 1.0), (1.0, 1.0), (middle, 7.0 / 6.0), (large, 4.0 / 3.0), (9.0, 4.0 / 3.0)]
        {
            let took = found.seconds(predicted, 0.5);
            assert!((took - times * predicted).abs() < 1e-9 * took, "{predicted}: {took}");
        }
        // Too few to be told apart.
        assert_eq!(InTurn::of(vec![(1.0, 1.0), (100.0, 150.0)]).sizes.len(), 1);
        assert_eq!(InTurn::of(Vec::new()), InTurn::default());
        assert_eq!(InTurn::default().seconds(2.0, 0.5), 2.0);
    }

    #[test]
    fn what_was_stored_before_is_read() {
        let read = |text: &str| serde_json::from_str::<InTurn>(text).expect("reads");
        let alike = InTurn::alike(2.0, vec![1.0, 3.0]);
        assert_eq!(read(r#"{"added_us": 2.0, "times": [1.0, 3.0]}"#), alike);
        assert_eq!(read("[1.0, 3.0]"), InTurn { added_us: 0.0, ..alike.clone() });
        assert_eq!(read(&serde_json::to_string(&alike).expect("writes")), alike);
        assert!((alike.seconds(1e-6, 0.75) - 9e-6).abs() < 1e-12);
    }
}
