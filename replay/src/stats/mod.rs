//! Numbers with their uncertainty. Pure: every random draw comes from a fixed seed, so a report is reproducible.

mod bootstrap;
mod quantile;
mod wilson;

pub use bootstrap::{Bootstrap, bootstrap_mean};
pub use quantile::quantile;
pub use wilson::wilson;

/// A mean with a 95 % interval around it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Estimate {
    pub n: usize,
    pub mean: f64,
    pub low: f64,
    pub high: f64,
}

impl Estimate {
    /// Wilson's interval if every value is 0 or 1, else the bootstrap's. `None` without values.
    #[must_use]
    pub fn of(values: &[f64], bootstrap: Bootstrap) -> Option<Self> {
        if values.iter().all(|&value| value == 0.0 || value == 1.0) {
            let successes = values.iter().filter(|&&value| value == 1.0).count();
            return wilson(successes, values.len());
        }
        bootstrap_mean(values, bootstrap)
    }

    /// True if the interval leaves zero out: a difference that is not explained by chance at this level.
    #[must_use]
    pub fn excludes_zero(&self) -> bool {
        self.low > 0.0 || self.high < 0.0
    }
}
