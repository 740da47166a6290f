//! The baseline after RouteLLM (Ong et al., arXiv 2406.18665): a classifier of the request alone says how likely the cheap tier
//! does as well as the dear one, both without examples, and a threshold on that decides.
//!
//! ```text
//! p = sigmoid(w . x + b)      x: the request's embedding, in units of its root mean square;  y = 1 if the cheap answer is at least as good
//! loss = mean log loss + l2 |w|^2 / 2        full-batch gradient descent with momentum
//! ```
//!
//! Theirs is learned from preferences over other models' answers; this one from the measured answers of the very tiers, which
//! favours it. `l2` is the one of four that does best on a fifth of the rows.

use crate::harness::table::Key;
use crate::simulate::requests::Logged;

const L2: [f64; 4] = [1e-3, 1e-2, 1e-1, 1.0];
const STEPS: usize = 400;
const RATE: f64 = 0.5;
const MOMENTUM: f64 = 0.9;

/// Says how likely the cheapest tier does as well as the dearest, without examples.
#[derive(Debug, Clone, PartialEq)]
pub struct Classifier {
    weights: Vec<f64>,
    bias: f64,
    scale: f64,
    pub l2: f64,
    /// Mean log loss on the rows that `l2` was chosen on, and that of always saying the base rate.
    pub held_out: (f64, f64),
}

struct Row {
    x: Vec<f64>,
    y: f64,
}

impl Classifier {
    /// `None` without requests.
    #[must_use]
    pub fn train(requests: &[Logged]) -> Option<Self> {
        let dimensions = requests.first()?.embedding.len();
        let scale = (dimensions as f64).sqrt();
        let row = |request: &Logged| {
            let (cheap, dear) = (request.answers.first()?, request.answers.last()?);
            let y = f64::from(u8::from(cheap.plain.score >= dear.plain.score));
            Some(Row { x: request.embedding.iter().map(|value| f64::from(*value) * scale).collect(), y })
        };
        let held = |request: &&Logged| Key::of(&["classifier", &request.id]).as_str().as_bytes()[0] < b'3';
        let (chosen_on, trained_on): (Vec<&Logged>, Vec<&Logged>) = requests.iter().partition(held);
        let chosen_on: Vec<Row> = chosen_on.into_iter().filter_map(row).collect();
        let trained_on: Vec<Row> = trained_on.into_iter().filter_map(row).collect();
        let base = trained_on.iter().map(|row| row.y).sum::<f64>() / trained_on.len().max(1) as f64;
        let tried = L2.iter().map(|l2| {
            let (weights, bias) = descend(&trained_on, *l2);
            let lost = loss(&chosen_on, |x| probability(&weights, bias, x));
            (lost, *l2)
        });
        let (lost, l2) = tried.min_by(|a, b| a.0.total_cmp(&b.0))?;
        let blind = loss(&chosen_on, |_| base);
        let all: Vec<Row> = requests.iter().filter_map(row).collect();
        let (weights, bias) = descend(&all, l2);
        Some(Self { weights, bias, scale, l2, held_out: (lost, blind) })
    }

    #[must_use]
    pub fn probability(&self, embedding: &[f32]) -> f64 {
        let x: Vec<f64> = embedding.iter().map(|value| f64::from(*value) * self.scale).collect();
        probability(&self.weights, self.bias, &x)
    }
}

fn descend(rows: &[Row], l2: f64) -> (Vec<f64>, f64) {
    let dimensions = rows.first().map_or(0, |row| row.x.len());
    let (mut weights, mut bias) = (vec![0.0; dimensions], 0.0);
    let (mut pace, mut bias_pace) = (vec![0.0; dimensions], 0.0);
    let count = rows.len().max(1) as f64;
    // The mean squared length of a row bounds the curvature: a quarter of it, and what l2 adds.
    let rate = RATE / (dimensions as f64 / 4.0 + l2 + 1.0);
    for _ in 0..STEPS {
        let (mut slope, mut bias_slope) = (vec![0.0; dimensions], 0.0);
        for row in rows {
            let error = (probability(&weights, bias, &row.x) - row.y) / count;
            slope.iter_mut().zip(&row.x).for_each(|(slope, x)| *slope += error * x);
            bias_slope += error;
        }
        for ((weight, pace), slope) in weights.iter_mut().zip(&mut pace).zip(&slope) {
            *pace = MOMENTUM * *pace - rate * (slope + l2 * *weight);
            *weight += *pace;
        }
        bias_pace = MOMENTUM * bias_pace - RATE * bias_slope;
        bias += bias_pace;
    }
    (weights, bias)
}

fn probability(weights: &[f64], bias: f64, x: &[f64]) -> f64 {
    let logit: f64 = bias + weights.iter().zip(x).map(|(weight, x)| weight * x).sum::<f64>();
    1.0 / (1.0 + (-logit).exp())
}

fn loss(rows: &[Row], predict: impl Fn(&[f64]) -> f64) -> f64 {
    let of = |row: &Row| {
        let p = predict(&row.x).clamp(1e-6, 1.0 - 1e-6);
        -(row.y * p.ln() + (1.0 - row.y) * (1.0 - p).ln())
    };
    rows.iter().map(of).sum::<f64>() / rows.len().max(1) as f64
}

#[cfg(test)]
mod tests {
    use rand::Rng;

    use super::*;
    use crate::policies::testing::request;

    /// The cheap tier can do what lies on one side.
    fn world(count: usize, seed: u64) -> Vec<Logged> {
        let mut rng = crate::learn::seeded(seed);
        (0..count)
            .map(|id| {
                let embedding: Vec<f32> = (0..16).map(|_| rng.random_range(-0.25..0.25)).collect();
                let cheap = f64::from(u8::from(embedding[3] > 0.0));
                Logged { embedding, ..request(&format!("r{id}"), [cheap, cheap, 0.5, 0.5]) }
            })
            .collect()
    }

    #[test]
    fn it_learns_which_requests_the_cheap_tier_can_answer() {
        let classifier = Classifier::train(&world(400, 1)).unwrap();
        let unseen = world(400, 2);
        let right = unseen.iter().filter(|request| {
            (classifier.probability(&request.embedding) > 0.5) == (request.embedding[3] > 0.0)
        });
        assert!(right.count() > 360);
        assert!(classifier.held_out.0 < classifier.held_out.1, "{:?}", classifier.held_out);
        assert!(Classifier::train(&[]).is_none());
    }
}
