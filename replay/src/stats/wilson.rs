//! Wilson's score interval for a share: stays inside [0, 1] and is honest near its ends and for small n, where the
//! normal interval is not (Wilson 1927; Brown, Cai and DasGupta 2001).
//!
//! With p = k/n: `(p + z^2/2n +- z sqrt(p(1-p)/n + z^2/4n^2)) / (1 + z^2/n)`.

use super::Estimate;

/// The standard normal quantile at 0.975.
const Z: f64 = 1.959_963_984_540_054;

/// `successes` of `n` with a 95 % interval; `None` for n = 0.
#[must_use]
pub fn wilson(successes: usize, n: usize) -> Option<Estimate> {
    if n == 0 {
        return None;
    }
    let count = n as f64;
    let share = successes.min(n) as f64 / count;
    let z2 = Z * Z / count;
    let centre = (share + z2 / 2.0) / (1.0 + z2);
    let half = Z * (share * (1.0 - share) / count + z2 / (4.0 * count)).sqrt() / (1.0 + z2);
    // The clamp only takes off rounding errors at shares of exactly 0 and 1.
    let (low, high) = ((centre - half).clamp(0.0, share), (centre + half).clamp(share, 1.0));
    Some(Estimate { n, mean: share, low, high })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn known_values() {
        // 8 of 10: (0.4902, 0.9433), the textbook example.
        let estimate = wilson(8, 10).unwrap();
        assert!(
            (estimate.low - 0.490_16).abs() < 1e-4 && (estimate.high - 0.943_32).abs() < 1e-4,
            "{estimate:?}"
        );
        // 0 of 60: high = z^2 / (n + z^2) = 0.0602.
        let estimate = wilson(0, 60).unwrap();
        assert_eq!(estimate.low, 0.0);
        assert!((estimate.high - 0.060_17).abs() < 1e-4, "{estimate:?}");
        assert!(wilson(0, 0).is_none());
    }

    proptest! {
        #[test]
        fn bounds_enclose_the_share_and_mirror(n in 1usize..500, k in 0usize..500) {
            let k = k.min(n);
            let estimate = wilson(k, n).unwrap();
            prop_assert!(0.0 <= estimate.low && estimate.low <= estimate.mean);
            prop_assert!(estimate.mean <= estimate.high && estimate.high <= 1.0);
            let mirrored = wilson(n - k, n).unwrap();
            prop_assert!((estimate.low - (1.0 - mirrored.high)).abs() < 1e-9);
        }

        #[test]
        fn ten_times_the_data_is_narrower(n in 1usize..200, k in 0usize..200) {
            let k = k.min(n);
            let (few, many) = (wilson(k, n).unwrap(), wilson(10 * k, 10 * n).unwrap());
            prop_assert!(many.high - many.low < few.high - few.low);
        }
    }
}
