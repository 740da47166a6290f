//! Rotary position embedding (arXiv 2104.09864): pair `i` of a head's `d` dimensions is turned by `position * f_i`,
//! `f_i = base^(-2i/d)`, and how checkpoints stretch that to longer contexts.

use std::f64::consts::PI;

use reprise_kernels::rope::Pairing;

/// What a device needs to turn queries and keys.
#[derive(Debug, Clone, PartialEq)]
pub struct Rope {
    /// Radians per position, one for each pair of dimensions: head_dim / 2 of them.
    pub inverse_frequencies: Vec<f32>,
    /// Factor on cosine and sine.
    pub magnitude: f32,
    pub pairing: Pairing,
}

#[derive(Debug, Clone, PartialEq)]
pub enum RopeScaling {
    None,
    /// `f_i / factor` (arXiv 2306.15595).
    Linear {
        factor: f64,
    },
    /// Llama 3.1: long wavelengths are divided by `factor`, short ones kept, a smooth crossing between
    /// `original / high` and `original / low` positions per turn.
    Llama3 {
        factor: f64,
        low: f64,
        high: f64,
        original: f64,
    },
    Yarn(Yarn),
    /// Divisors, one for each pair: how a GGUF file stores Llama 3.1's scaling (`rope_freqs.weight`).
    Divisors(Vec<f32>),
}

/// YaRN (arXiv 2309.00071): pairs that turn more than `beta_fast` times in the `original` context keep their frequency, those
/// that turn less than `beta_slow` times are interpolated, with a linear ramp over the pairs between.
#[derive(Debug, Clone, PartialEq)]
pub struct Yarn {
    pub factor: f64,
    /// Tokens of the context before it was stretched.
    pub original: f64,
    pub beta_fast: f64,
    pub beta_slow: f64,
    /// Factor on cosine and sine; none: `0.1 ln(factor) + 1`.
    pub magnitude: Option<f64>,
    /// Whether the ends of the ramp are whole pairs.
    pub truncate: bool,
}

impl Rope {
    /// `head_dim` is even and more than 0.
    #[must_use]
    pub fn new(base: f64, head_dim: usize, scaling: &RopeScaling, pairing: Pairing) -> Self {
        let pairs = head_dim / 2;
        let plain = (0..pairs).map(|i| base.powf(-2.0 * i as f64 / head_dim as f64));
        let (frequencies, magnitude): (Vec<f64>, f64) = match scaling {
            RopeScaling::None => (plain.collect(), 1.0),
            RopeScaling::Linear { factor } => (plain.map(|f| f / factor).collect(), 1.0),
            RopeScaling::Llama3 { factor, low, high, original } => {
                (plain.map(|f| llama3(f, *factor, *low, *high, *original)).collect(), 1.0)
            }
            RopeScaling::Divisors(divisors) => {
                (plain.zip(divisors).map(|(f, divisor)| f / f64::from(*divisor)).collect(), 1.0)
            }
            RopeScaling::Yarn(yarn) => {
                let (low, high) = yarn.ramp(base, head_dim);
                let stretch = |(i, f): (usize, f64)| {
                    let interpolated = ((i as f64 - low) / (high - low)).clamp(0.0, 1.0);
                    f / yarn.factor * interpolated + f * (1.0 - interpolated)
                };
                (plain.enumerate().map(stretch).collect(), yarn.magnitude())
            }
        };
        let inverse_frequencies = frequencies.into_iter().map(|f| f as f32).collect();
        Self { inverse_frequencies, magnitude: magnitude as f32, pairing }
    }
}

fn llama3(frequency: f64, factor: f64, low: f64, high: f64, original: f64) -> f64 {
    let turns = original * frequency / (2.0 * PI);
    let kept = ((turns - low) / (high - low)).clamp(0.0, 1.0);
    (1.0 - kept) * frequency / factor + kept * frequency
}

impl Yarn {
    fn magnitude(&self) -> f64 {
        self.magnitude.unwrap_or_else(|| if self.factor > 1.0 { 0.1 * self.factor.ln() + 1.0 } else { 1.0 })
    }

    /// The pairs between which interpolation sets in.
    fn ramp(&self, base: f64, head_dim: usize) -> (f64, f64) {
        let pair_of =
            |turns: f64| head_dim as f64 * (self.original / (turns * 2.0 * PI)).ln() / (2.0 * base.ln());
        let (mut low, mut high) = (pair_of(self.beta_fast), pair_of(self.beta_slow));
        if self.truncate {
            (low, high) = (low.floor(), high.ceil());
        }
        let (low, high) = (low.max(0.0), high.min(head_dim as f64 - 1.0));
        // As in the authors' code: no division by zero.
        (low, if low == high { high + 0.001 } else { high })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn frequencies(scaling: &RopeScaling) -> Vec<f32> {
        Rope::new(10_000.0, 64, scaling, Pairing::Halves).inverse_frequencies
    }

    #[test]
    fn the_first_pair_turns_a_radian_and_the_last_by_the_base() {
        let plain = frequencies(&RopeScaling::None);
        assert_eq!((plain.len(), plain[0]), (32, 1.0));
        assert!((f64::from(plain[31]) - 10_000f64.powf(-62.0 / 64.0)).abs() < 1e-9);
    }

    #[test]
    fn scalings_keep_fast_pairs_and_divide_slow_ones() {
        let plain = frequencies(&RopeScaling::None);
        let (factor, original) = (8.0, 2048.0);
        let yarn =
            Yarn { factor, original, beta_fast: 32.0, beta_slow: 1.0, magnitude: None, truncate: true };
        assert!((yarn.magnitude() - (0.1 * 8f64.ln() + 1.0)).abs() < 1e-12);
        for scaling in
            [RopeScaling::Llama3 { factor, low: 1.0, high: 4.0, original }, RopeScaling::Yarn(yarn)]
        {
            let scaled = frequencies(&scaling);
            assert_eq!(scaled[0], plain[0], "{scaling:?}");
            assert!((scaled[31] * 8.0 - plain[31]).abs() < 1e-9, "{scaling:?}");
            let between = scaled.iter().zip(&plain).filter(|(s, p)| **s < **p && **s * 8.0 > **p * 1.001);
            assert!(between.count() > 0, "{scaling:?} has no crossing");
        }
    }

    #[test]
    fn divisors_hold_for_their_pair() {
        let mut divisors = vec![1.0; 32];
        divisors[3] = 4.0;
        let scaled = frequencies(&RopeScaling::Divisors(divisors));
        let plain = frequencies(&RopeScaling::None);
        assert_eq!(scaled[2], plain[2]);
        assert!((scaled[3] * 4.0 - plain[3]).abs() < 1e-7);
    }

    proptest! {
        #[test]
        fn a_scaled_frequency_lies_between_the_divided_and_the_plain(
            factor in 1.0f64..64.0,
            original in 64.0f64..8192.0,
            base in 1e3f64..1e6,
        ) {
            let plain = Rope::new(base, 64, &RopeScaling::None, Pairing::Halves).inverse_frequencies;
            let yarn = Yarn { factor, original, beta_fast: 32.0, beta_slow: 1.0, magnitude: None, truncate: false };
            let llama3 = RopeScaling::Llama3 { factor, low: 1.0, high: 4.0, original };
            for scaling in [llama3, RopeScaling::Yarn(yarn), RopeScaling::Linear { factor }] {
                let scaled = Rope::new(base, 64, &scaling, Pairing::Halves).inverse_frequencies;
                for (scaled, plain) in scaled.iter().zip(&plain) {
                    let (scaled, plain) = (f64::from(*scaled), f64::from(*plain));
                    prop_assert!(scaled <= plain * 1.000_001 && scaled * factor >= plain * 0.999_999);
                }
            }
        }
    }
}
