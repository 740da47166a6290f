use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// A rising, piecewise linear map from a raw score to a measured mean: isotonic regression's blocks, joined by lines.
///
/// Barlow et al. 1972; Zadrozny and Elkan 2002 for classifiers. Between blocks a line keeps the order of scores that
/// isotonic regression's steps would make equal.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "Vec<(f32, f32)>", into = "Vec<(f32, f32)>")]
pub struct Calibration(Vec<(f32, f32)>);

/// Knots that are no rising map within [0, 1].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("a calibration needs knots that rise in both coordinates, with values in [0, 1]")]
pub struct CalibrationError;

impl Calibration {
    /// The map that changes nothing.
    #[must_use]
    pub fn identity() -> Self {
        Self(vec![(0.0, 0.0), (1.0, 1.0)])
    }

    /// # Errors
    /// No knot, scores that do not rise strictly, values that fall or leave [0, 1].
    pub fn try_new(knots: Vec<(f32, f32)>) -> Result<Self, CalibrationError> {
        let inside = knots.iter().all(|(x, y)| x.is_finite() && (0.0..=1.0).contains(y));
        let rising = knots.windows(2).all(|pair| pair[0].0 < pair[1].0 && pair[0].1 <= pair[1].1);
        if knots.is_empty() || !inside || !rising { Err(CalibrationError) } else { Ok(Self(knots)) }
    }

    /// Flat outside the first and the last knot.
    #[must_use]
    pub fn apply(&self, score: f32) -> f32 {
        let above = self.0.partition_point(|(x, _)| *x <= score);
        match (above.checked_sub(1).and_then(|below| self.0.get(below)), self.0.get(above)) {
            (Some(low), Some(high)) => {
                let share = (score - low.0) / (high.0 - low.0);
                low.1 + share * (high.1 - low.1)
            }
            (Some((_, y)), None) | (None, Some((_, y))) => *y,
            (None, None) => score,
        }
    }
}

impl TryFrom<Vec<(f32, f32)>> for Calibration {
    type Error = CalibrationError;

    fn try_from(knots: Vec<(f32, f32)>) -> Result<Self, CalibrationError> {
        Self::try_new(knots)
    }
}

impl From<Calibration> for Vec<(f32, f32)> {
    fn from(calibration: Calibration) -> Self {
        calibration.0
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn lines_between_knots_and_flat_outside() {
        let calibration = Calibration::try_new(vec![(0.2, 0.1), (0.4, 0.5)]).unwrap();
        for (score, expected) in [(0.0, 0.1), (0.2, 0.1), (0.3, 0.3), (0.4, 0.5), (0.9, 0.5)] {
            assert!((calibration.apply(score) - expected).abs() < 1e-6, "{score}");
        }
    }

    #[test]
    fn what_falls_is_refused() {
        for knots in [vec![], vec![(0.1, 0.5), (0.2, 0.4)], vec![(0.1, 0.1), (0.1, 0.2)], vec![(0.1, 1.5)]] {
            assert!(Calibration::try_new(knots).is_err());
        }
        assert!(serde_json::from_str::<Calibration>("[[0.5,0.9],[0.4,1.0]]").is_err());
    }

    proptest! {
        #[test]
        fn rises_and_stays_inside(
            ys in prop::collection::vec(0.0_f32..=1.0, 1..8), a in -0.5_f32..1.5, b in -0.5_f32..1.5,
        ) {
            let mut ys = ys;
            ys.sort_by(f32::total_cmp);
            let knots = ys.iter().enumerate().map(|(i, y)| (i as f32 / 8.0, *y)).collect();
            let calibration = Calibration::try_new(knots).unwrap();
            let (low, high) = (calibration.apply(a.min(b)), calibration.apply(a.max(b)));
            prop_assert!(low <= high + 1e-6);
            prop_assert!((0.0..=1.0).contains(&low) && (0.0..=1.0).contains(&high));
        }
    }
}
