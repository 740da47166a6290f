//! Trains the utility model from outcomes, calibrates it, finds tau, and says how good it is on requests it never saw.
//!
//! Plain Rust instead of candle: the network has some 15,000 parameters and one hidden layer, its gradient is a page that a
//! test checks against finite differences, and training gives the same bits on every machine.

pub mod answers;
pub mod isotonic;
pub mod live;
pub mod measure;
pub mod network;
pub mod rows;
pub mod tau;
pub mod train;

use anyhow::ensure;
use reprise_cache::selection::utility::{Calibration, UtilityModel};
use serde::Serialize;

use crate::harness::outcome::Outcome;
use crate::harness::table::{Table, Vector};
use measure::{Quality, Scored};
use rows::{Part, Rows};
use train::Training;

/// How good the prior and the model are on the same held-out requests.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    pub training_rows: usize,
    pub calibration_rows: usize,
    pub test_rows: usize,
    pub test_requests: usize,
    pub parameters: usize,
    pub epochs: usize,
    pub tau: f32,
    /// The similarity prior as it is.
    pub prior: Quality,
    /// The prior through a calibration of its own: what calibration alone is worth.
    pub prior_calibrated: Quality,
    pub model: Quality,
    /// By set of the data: prior, model.
    pub by_set: Vec<(String, Quality, Quality)>,
}

impl Report {
    /// True if the model foretells the outcomes of unseen requests better than likeness does, calibrated as well.
    #[must_use]
    pub fn is_better(&self) -> bool {
        self.model.brier < self.prior_calibrated.brier
    }
}

/// # Errors
/// Too few outcomes to train, calibrate and test on.
pub fn learn(
    outcomes: &[Outcome],
    vectors: &Table<Vector>,
    training: &Training,
) -> anyhow::Result<(UtilityModel, Report)> {
    let rows = Rows::from_outcomes(outcomes, vectors, training.seed)?;
    let of = |part| rows.of(part);
    let (train, calibrate, test) = (of(Part::Train), of(Part::Calibrate), of(Part::Test));
    ensure!(
        train.len() >= 50 && calibrate.len() >= 20 && test.len() >= 20,
        "{} rows to train on, {} to calibrate and {} to test are too few",
        train.len(),
        calibrate.len(),
        test.len()
    );
    let (network, epochs) = train::fit(&rows, training);
    let raw = |row: &rows::Row| network.score(&rows, row) as f32;
    let calibration = fitted(&calibrate, raw)?;
    let prior_calibration = fitted(&calibrate, |row| row.prior)?;
    let tau = tau::choose(&rows, outcomes, |row| calibration.apply(raw(row)));
    let scored = |rows: &[&rows::Row], score: &dyn Fn(&rows::Row) -> f32| -> Vec<Scored> {
        rows.iter().map(|row| Scored::new(row, score(row))).collect()
    };
    let prior = |row: &rows::Row| row.prior;
    let prior_calibrated = |row: &rows::Row| prior_calibration.apply(row.prior);
    let model = |row: &rows::Row| calibration.apply(raw(row));
    let mut sets: Vec<String> = test.iter().map(|row| row.set.clone()).collect();
    sets.sort_unstable();
    sets.dedup();
    let by_set = sets.into_iter().map(|set| {
        let within: Vec<&rows::Row> = test.iter().copied().filter(|row| row.set == set).collect();
        let pair = (Quality::of(&scored(&within, &prior)), Quality::of(&scored(&within, &model)));
        (set, pair.0, pair.1)
    });
    let report = Report {
        training_rows: train.len(),
        calibration_rows: calibrate.len(),
        test_rows: test.len(),
        test_requests: rows::requests(&test),
        parameters: network.parameters(),
        epochs,
        tau,
        prior: Quality::of(&scored(&test, &prior)),
        prior_calibrated: Quality::of(&scored(&test, &prior_calibrated)),
        model: Quality::of(&scored(&test, &model)),
        by_set: by_set.collect(),
    };
    let told = format!("{} rows of {} requests, seed {}", train.len(), rows::requests(&train), training.seed);
    Ok((network.into_model(calibration, tau, told)?, report))
}

fn fitted(rows: &[&rows::Row], score: impl Fn(&rows::Row) -> f32) -> anyhow::Result<Calibration> {
    let points: Vec<isotonic::Point> = rows
        .iter()
        .map(|row| isotonic::Point { score: score(row), label: row.label, weight: row.weight })
        .collect();
    Ok(isotonic::fit(&points)?)
}

/// Enough to name a network's numbers.
pub(crate) fn seeded(seed: u64) -> rand_chacha::ChaCha8Rng {
    rand::SeedableRng::seed_from_u64(seed)
}

#[cfg(test)]
mod tests;
