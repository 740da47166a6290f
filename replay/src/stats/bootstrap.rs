//! Percentile bootstrap of a mean (Efron 1979): the mean of `resamples` samples drawn with replacement, and the 2.5th
//! and 97.5th percentile of those means. For a paired difference, resample the differences.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::{Estimate, quantile};

/// How often, and from which seed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bootstrap {
    pub resamples: usize,
    pub seed: u64,
}

impl Default for Bootstrap {
    fn default() -> Self {
        Self { resamples: 2000, seed: 20_261_124 }
    }
}

/// The mean with its 95 % percentile interval; `None` without values.
#[must_use]
pub fn bootstrap_mean(values: &[f64], bootstrap: Bootstrap) -> Option<Estimate> {
    if values.is_empty() {
        return None;
    }
    let n = values.len();
    let mean = values.iter().sum::<f64>() / n as f64;
    let mut rng = ChaCha8Rng::seed_from_u64(bootstrap.seed);
    let means: Vec<f64> = (0..bootstrap.resamples)
        .map(|_| (0..n).map(|_| values[rng.random_range(0..n)]).sum::<f64>() / n as f64)
        .collect();
    let bound = |share| quantile(&means, share).unwrap_or(mean);
    // Few resamples of skewed values can leave the mean outside: it is the estimate, so it bounds the interval.
    Some(Estimate { n, mean, low: bound(0.025).min(mean), high: bound(0.975).max(mean) })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn close_to_the_normal_interval_for_many_values() {
        let values: Vec<f64> = (0..400).map(|i| f64::from(i % 2)).collect();
        let estimate = bootstrap_mean(&values, Bootstrap::default()).unwrap();
        // 0.5 +- 1.96 * 0.5 / 20.
        assert!((estimate.low - 0.451).abs() < 0.01 && (estimate.high - 0.549).abs() < 0.01, "{estimate:?}");
    }

    #[test]
    fn the_same_seed_gives_the_same_interval() {
        let values = [0.1, 0.9, 0.4, 0.7];
        assert_eq!(
            bootstrap_mean(&values, Bootstrap::default()),
            bootstrap_mean(&values, Bootstrap::default())
        );
        assert!(bootstrap_mean(&[], Bootstrap::default()).is_none());
    }

    proptest! {
        #[test]
        fn the_interval_holds_the_mean_and_lies_among_the_values(
            values in proptest::collection::vec(-5.0f64..5.0, 1..40), seed: u64,
        ) {
            let estimate = bootstrap_mean(&values, Bootstrap { resamples: 200, seed }).unwrap();
            let (min, max) = values.iter().fold((f64::MAX, f64::MIN), |(a, b), &v| (a.min(v), b.max(v)));
            prop_assert!(estimate.low <= estimate.mean && estimate.mean <= estimate.high);
            prop_assert!(estimate.low >= min - 1e-9 && estimate.high <= max + 1e-9);
        }
    }
}
