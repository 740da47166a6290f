use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha12Rng;

/// A draw for each step of a generation that depends on the seed and the number of the step alone: not on what other
/// sequences drew, nor on how often this one was computed anew. Step `s` takes the first number of ChaCha12's stream `s`
/// under the seed's key.
#[derive(Debug, Clone)]
pub(super) struct Draws {
    random: ChaCha12Rng,
}

impl Draws {
    /// `None` draws a seed.
    pub(super) fn new(seed: Option<u64>) -> Self {
        Self { random: ChaCha12Rng::seed_from_u64(seed.unwrap_or_else(rand::random)) }
    }

    /// Uniform in [0, 1).
    pub(super) fn at(&mut self, step: u64) -> f64 {
        self.random.set_stream(step);
        self.random.set_word_pos(0);
        self.random.random()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_is_the_same_whatever_was_drawn_before() {
        let (mut once, mut again) = (Draws::new(Some(7)), Draws::new(Some(7)));
        let forwards: Vec<f64> = (0..50).map(|step| once.at(step)).collect();
        let mut backwards: Vec<f64> = (0..50).rev().map(|step| again.at(step)).collect();
        backwards.reverse();
        assert_eq!(forwards, backwards);
        assert_ne!(forwards[0], Draws::new(Some(8)).at(0));
        assert!(forwards.windows(2).all(|pair| pair[0] != pair[1]));
    }

    #[test]
    fn steps_are_uniform_and_uncorrelated() {
        let mut draws = Draws::new(Some(1));
        let values: Vec<f64> = (0..20_000).map(|step| draws.at(step) - 0.5).collect();
        let mean = values.iter().sum::<f64>() / 20_000.0;
        let variance = values.iter().map(|value| value * value).sum::<f64>() / 20_000.0;
        let lagged = values.windows(2).map(|pair| pair[0] * pair[1]).sum::<f64>() / 20_000.0;
        // Within four standard deviations of each estimate.
        assert!(mean.abs() < 4.0 * (1.0f64 / 12.0 / 20_000.0).sqrt(), "{mean}");
        assert!((variance - 1.0 / 12.0).abs() < 4.0 * (1.0f64 / 180.0 / 20_000.0).sqrt(), "{variance}");
        assert!(lagged.abs() < 4.0 * (1.0 / 12.0) / 20_000f64.sqrt(), "{lagged}");
    }
}
