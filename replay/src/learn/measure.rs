//! How good predicted utilities are, on outcomes of a single example.

use std::collections::HashMap;

use serde::Serialize;

use super::rows::Row;

/// A prediction and what came of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Scored {
    pub request: String,
    pub predicted: f64,
    pub label: f64,
    pub weight: f64,
    pub alone: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Quality {
    /// Weighted mean label.
    pub base_rate: f64,
    /// Mean squared error of the prediction; predicting the base rate always gives `base_rate (1 - base_rate)` for labels
    /// that are 0 or 1.
    pub brier: f64,
    /// Expected calibration error over ten bins of equal width.
    pub ece: f64,
    /// Chance that of a good and a bad outcome the good one was predicted higher, any two requests.
    pub auc: Option<f64>,
    /// The same among examples shown alone to one request: what selection needs.
    pub order_within_request: Option<f64>,
    /// Pairs behind the number before.
    pub pairs: usize,
}

const BINS: usize = 10;

impl Scored {
    #[must_use]
    pub fn new(row: &Row, predicted: f32) -> Self {
        Self {
            request: row.request.clone(),
            predicted: f64::from(predicted),
            label: f64::from(row.label),
            weight: f64::from(row.weight),
            alone: row.alone,
        }
    }
}

impl Quality {
    #[must_use]
    pub fn of(rows: &[Scored]) -> Self {
        let weight: f64 = rows.iter().map(|row| row.weight).sum();
        let mean = |value: &dyn Fn(&Scored) -> f64| {
            if weight > 0.0 {
                rows.iter().map(|row| row.weight * value(row)).sum::<f64>() / weight
            } else {
                0.0
            }
        };
        let (order, pairs) = within(rows);
        Self {
            base_rate: mean(&|row| row.label),
            brier: mean(&|row| (row.predicted - row.label).powi(2)),
            ece: calibration_error(rows, weight),
            auc: order_of(&rows.iter().collect::<Vec<_>>()).map(|(share, _)| share),
            order_within_request: order,
            pairs,
        }
    }
}

fn calibration_error(rows: &[Scored], weight: f64) -> f64 {
    let mut bins = [(0.0, 0.0, 0.0); BINS];
    for row in rows {
        let bin = ((row.predicted * BINS as f64) as usize).min(BINS - 1);
        bins[bin].0 += row.weight;
        bins[bin].1 += row.weight * row.predicted;
        bins[bin].2 += row.weight * row.label;
    }
    let off = bins.iter().filter(|bin| bin.0 > 0.0).map(|(_, predicted, label)| (predicted - label).abs());
    if weight > 0.0 { off.sum::<f64>() / weight } else { 0.0 }
}

/// Share of pairs of unequal outcome that are in order, ties of the prediction counting half; and how many there were.
fn order_of(rows: &[&Scored]) -> Option<(f64, usize)> {
    let (mut good, mut pairs) = (0.0, 0);
    for (index, a) in rows.iter().enumerate() {
        for b in &rows[index + 1..] {
            if (a.label - b.label).abs() < 1e-9 {
                continue;
            }
            pairs += 1;
            let agree = (a.predicted - b.predicted) * (a.label - b.label);
            good += if agree > 0.0 {
                1.0
            } else if agree == 0.0 {
                0.5
            } else {
                0.0
            };
        }
    }
    (pairs > 0).then(|| (good / pairs as f64, pairs))
}

fn within(rows: &[Scored]) -> (Option<f64>, usize) {
    let mut groups: HashMap<&str, Vec<&Scored>> = HashMap::new();
    for row in rows.iter().filter(|row| row.alone) {
        groups.entry(&row.request).or_default().push(row);
    }
    let found: Vec<(f64, usize)> = groups.values().filter_map(|group| order_of(group)).collect();
    let pairs: usize = found.iter().map(|(_, pairs)| pairs).sum();
    let good: f64 = found.iter().map(|(share, pairs)| share * *pairs as f64).sum();
    ((pairs > 0).then(|| good / pairs as f64), pairs)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scored(request: &str, predicted: f64, label: f64) -> Scored {
        Scored { request: request.into(), predicted, label, weight: 1.0, alone: true }
    }

    #[test]
    fn by_hand() {
        let rows =
            [scored("a", 0.9, 1.0), scored("a", 0.2, 0.0), scored("b", 0.4, 1.0), scored("b", 0.4, 0.0)];
        let quality = Quality::of(&rows);
        assert!((quality.brier - (0.01 + 0.04 + 0.36 + 0.16) / 4.0).abs() < 1e-9);
        // Bins: 0.9 off by 0.1, 0.2 by 0.2, the two of 0.4 by 0.2 together.
        assert!((quality.ece - (0.1 + 0.2 + 0.2) / 4.0).abs() < 1e-9);
        // Of four pairs of unequal outcome three are in order and one is tied.
        assert_eq!(quality.auc, Some(3.5 / 4.0));
        assert_eq!((quality.order_within_request, quality.pairs), (Some(0.75), 2));
    }
}
