//! Isotonic regression by pooling adjacent violators (Ayer et al. 1955): the rising step function nearest to the labels.

use std::cmp::Ordering;

use reprise_cache::selection::utility::{Calibration, CalibrationError};

/// A raw score and what came of it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Point {
    pub score: f32,
    /// In [0, 1].
    pub label: f32,
    pub weight: f32,
}

#[derive(Debug, Clone, Copy)]
struct Block {
    weight: f64,
    labels: f64,
    scores: f64,
}

impl Block {
    fn mean(&self) -> f64 {
        self.labels / self.weight
    }

    fn join(&mut self, other: &Self) {
        self.weight += other.weight;
        self.labels += other.labels;
        self.scores += other.scores;
    }
}

/// Each block becomes a knot at its mean score. One observation of each outcome is added at the ends, as if seen (Laplace),
/// so that a short run of luck is not told as certainty.
///
/// # Errors
/// No point has weight.
pub fn fit(points: &[Point]) -> Result<Calibration, CalibrationError> {
    let mut points: Vec<Point> =
        points.iter().copied().filter(|point| point.weight > 0.0 && point.score.is_finite()).collect();
    points.sort_by(|a, b| a.score.total_cmp(&b.score));
    let (Some(first), Some(last)) = (points.first().copied(), points.last().copied()) else {
        return Err(CalibrationError);
    };
    for (score, label) in [(first.score, 0.0), (first.score, 1.0), (last.score, 0.0), (last.score, 1.0)] {
        points.push(Point { score, label, weight: 0.5 });
    }
    points.sort_by(|a, b| a.score.total_cmp(&b.score));
    let mut blocks: Vec<(f32, Block)> = Vec::new();
    for point in &points {
        let weight = f64::from(point.weight);
        let new = Block {
            weight,
            labels: weight * f64::from(point.label),
            scores: weight * f64::from(point.score),
        };
        // Equal scores are one block from the start: their order says nothing.
        match blocks.last_mut().filter(|(score, _)| score.total_cmp(&point.score) == Ordering::Equal) {
            Some((_, block)) => block.join(&new),
            None => blocks.push((point.score, new)),
        }
    }
    let mut pooled: Vec<Block> = Vec::new();
    for (_, block) in blocks {
        pooled.push(block);
        while let [.., before, after] = pooled.as_slice()
            && before.mean() >= after.mean()
        {
            let after = *after;
            pooled.pop();
            if let Some(before) = pooled.last_mut() {
                before.join(&after);
            }
        }
    }
    let knots = pooled.iter().map(|block| ((block.scores / block.weight) as f32, block.mean() as f32));
    let mut rising: Vec<(f32, f32)> = Vec::new();
    for knot in knots {
        // Two means may round to one number.
        if rising.last().is_none_or(|last| last.0 < knot.0) {
            rising.push(knot);
        }
    }
    Calibration::try_new(rising)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn point(score: f32, label: f32) -> Point {
        Point { score, label, weight: 1.0 }
    }

    #[test]
    fn violators_are_pooled_to_their_mean() {
        let many = |score: f32, good: usize, bad: usize| {
            (0..good).map(move |_| point(score, 1.0)).chain((0..bad).map(move |_| point(score, 0.0)))
        };
        // 0.4 did better than 0.6: one block of 0.5 at their middle.
        let points: Vec<Point> = many(0.2, 10, 90)
            .chain(many(0.4, 60, 40))
            .chain(many(0.6, 40, 60))
            .chain(many(0.8, 90, 10))
            .collect();
        let calibration = fit(&points).unwrap();
        assert!((calibration.apply(0.5) - 0.5).abs() < 0.01);
        assert!((calibration.apply(0.2) - 0.1).abs() < 0.01 && (calibration.apply(0.8) - 0.9).abs() < 0.01);
        assert!(fit(&[]).is_err());
    }

    proptest! {
        #[test]
        fn rises_and_keeps_the_mean(
            points in prop::collection::vec((0.0_f32..1.0, prop::bool::ANY), 5..80), a in 0.0_f32..1.0, b in 0.0_f32..1.0,
        ) {
            let points: Vec<Point> =
                points.into_iter().map(|(score, good)| point(score, f32::from(u8::from(good)))).collect();
            let calibration = fit(&points).unwrap();
            prop_assert!(calibration.apply(a.min(b)) <= calibration.apply(a.max(b)) + 1e-6);
        }
    }
}
