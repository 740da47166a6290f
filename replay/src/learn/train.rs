//! AdamW (Loshchilov and Hutter 2019) over small batches; the network of the epoch with the least loss on the calibration
//! part is kept.

use rand::seq::SliceRandom;

use super::network::{Network, Shape};
use super::rows::{Part, Row, Rows};
use super::seeded;

/// How the network is trained. The defaults are those of the run that `replay/bench/runs` records.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Training {
    pub projected: usize,
    pub hidden: usize,
    pub epochs: usize,
    /// Epochs without a better loss after which training ends.
    pub patience: usize,
    pub batch: usize,
    pub rate: f64,
    pub decay: f64,
    pub seed: u64,
}

impl Default for Training {
    fn default() -> Self {
        Self {
            projected: 32,
            hidden: 32,
            epochs: 60,
            patience: 8,
            batch: 32,
            rate: 2e-3,
            decay: 0.02,
            seed: 1,
        }
    }
}

const BETA: (f64, f64) = (0.9, 0.999);

/// The trained network and the epochs it took.
#[must_use]
pub fn fit(rows: &Rows, training: &Training) -> (Network, usize) {
    let shape = Shape { dimensions: rows.dimensions, projected: training.projected, hidden: training.hidden };
    let mut rng = seeded(training.seed);
    let mut network = Network::new(shape, &mut rng);
    let (mut train, held) = (rows.of(Part::Train), rows.of(Part::Calibrate));
    let count = network.parameters();
    let (mut first, mut second) = (vec![0.0; count], vec![0.0; count]);
    let (mut best, mut best_loss, mut best_epoch) = (network.clone(), loss(&network, rows, &held), 0);
    let mut step = 0;
    for epoch in 1..=training.epochs {
        train.shuffle(&mut rng);
        for batch in train.chunks(training.batch) {
            let mut gradient = vec![0.0; count];
            for row in batch {
                network.learn_from(rows, row, &mut gradient);
            }
            step += 1;
            let scale = 1.0 / batch.len() as f64;
            let unbiased = (1.0 - BETA.0.powi(step), 1.0 - BETA.1.powi(step));
            let parameters = network.parameters.iter_mut().zip(&gradient).zip(&mut first).zip(&mut second);
            for (((parameter, slope), first), second) in parameters {
                let slope = slope * scale;
                *first += (1.0 - BETA.0) * (slope - *first);
                *second += (1.0 - BETA.1) * (slope * slope - *second);
                let move_by = (*first / unbiased.0) / ((*second / unbiased.1).sqrt() + 1e-8);
                *parameter -= training.rate * (move_by + training.decay * *parameter);
            }
        }
        let now = loss(&network, rows, &held);
        if now < best_loss {
            (best, best_loss, best_epoch) = (network.clone(), now, epoch);
        } else if epoch - best_epoch >= training.patience {
            break;
        }
    }
    (best, best_epoch)
}

fn loss(network: &Network, rows: &Rows, held: &[&Row]) -> f64 {
    let mut total = 0.0;
    for row in held {
        let (label, y) = (f64::from(row.label), network.score(rows, row).clamp(1e-9, 1.0 - 1e-9));
        total -= f64::from(row.weight) * (label * y.ln() + (1.0 - label) * (1.0 - y).ln());
    }
    total
}
