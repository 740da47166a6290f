use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha12Rng;
use reprise_tier::Sampling;

/// Draws the next token. With a seed, the draws depend on it and on the logits only.
#[derive(Debug)]
pub(crate) struct Sampler {
    temperature: f32,
    top_p: f32,
    random: ChaCha12Rng,
}

impl Sampler {
    pub(crate) fn new(sampling: &Sampling) -> Self {
        let seed = sampling.seed.unwrap_or_else(rand::random);
        Self {
            temperature: sampling.temperature,
            top_p: sampling.top_p,
            random: ChaCha12Rng::seed_from_u64(seed),
        }
    }

    /// The chosen index: the first largest at temperature 0; else drawn from softmax(logits / temperature), cut
    /// to the fewest likeliest tokens whose probabilities reach `top_p` (nucleus sampling, arXiv 1904.09751).
    pub(crate) fn sample(&mut self, logits: &[f32]) -> u32 {
        let best = argmax(logits);
        let Some(&top) = logits.get(best as usize) else { return best };
        if self.temperature <= 0.0 || !top.is_finite() {
            return best;
        }
        let scale = f64::from(self.temperature).recip();
        let weight = |logit: f32| (f64::from(logit - top) * scale).exp();
        let mut choices: Vec<(u32, f64)> = (0u32..)
            .zip(logits)
            .map(|(id, logit)| (id, weight(*logit)))
            // NaN fails the comparison too.
            .filter(|(_, weight)| *weight > 0.0)
            .collect();
        let mut total: f64 = choices.iter().map(|(_, weight)| weight).sum();
        if self.top_p < 1.0 {
            // All below this floor together weigh less than what is left out: not worth sorting a whole vocabulary.
            let floor = (1.0 - f64::from(self.top_p)) * total / logits.len() as f64;
            choices.retain(|(_, weight)| *weight >= floor);
            total = cut_to_nucleus(&mut choices, f64::from(self.top_p) * total);
        }
        let mut point = self.random.random::<f64>() * total;
        for (id, weight) in &choices {
            point -= weight;
            if point < 0.0 {
                return *id;
            }
        }
        choices.last().map_or(best, |(id, _)| *id)
    }
}

/// Keeps the fewest largest weights that reach `wanted`, largest first; returns their sum.
fn cut_to_nucleus(choices: &mut Vec<(u32, f64)>, wanted: f64) -> f64 {
    choices.sort_unstable_by(|(id_a, a), (id_b, b)| b.total_cmp(a).then(id_a.cmp(id_b)));
    let mut sum = 0.0;
    let mut keep = 0;
    for (_, weight) in choices.iter() {
        sum += weight;
        keep += 1;
        if sum >= wanted {
            break;
        }
    }
    choices.truncate(keep);
    sum
}

fn argmax(logits: &[f32]) -> u32 {
    let mut best = (0u32, f32::NEG_INFINITY);
    for (id, &logit) in (0u32..).zip(logits) {
        if logit > best.1 {
            best = (id, logit);
        }
    }
    best.0
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn sampler(temperature: f32, top_p: f32, seed: u64) -> Sampler {
        Sampler::new(&Sampling { temperature, top_p, seed: Some(seed) })
    }

    fn draws(sampler: &mut Sampler, logits: &[f32], n: usize) -> Vec<u32> {
        (0..n).map(|_| sampler.sample(logits)).collect()
    }

    #[test]
    fn greedy_takes_the_first_largest() {
        let mut greedy = sampler(0.0, 1.0, 1);
        assert_eq!(greedy.sample(&[0.0, 2.0, f32::NAN, 2.0, -1.0]), 1);
    }

    #[test]
    fn a_seed_fixes_the_draws() {
        let logits: Vec<f32> = (0..50).map(|i| (i % 7) as f32).collect();
        let first = draws(&mut sampler(1.0, 0.9, 7), &logits, 50);
        assert_eq!(first, draws(&mut sampler(1.0, 0.9, 7), &logits, 50));
        assert_ne!(first, draws(&mut sampler(1.0, 0.9, 8), &logits, 50));
    }

    #[test]
    fn frequencies_follow_the_softmax() {
        // Weights 1 : 2 : 5.
        let logits = [0.0, 2f32.ln(), 5f32.ln()];
        let drawn = draws(&mut sampler(1.0, 1.0, 3), &logits, 8000);
        for (id, share) in [(0, 0.125), (1, 0.25), (2, 0.625)] {
            let seen = drawn.iter().filter(|&&d| d == id).count() as f64 / 8000.0;
            assert!((seen - share).abs() < 0.02, "{id}: {seen} for {share}");
        }
    }

    proptest! {
        #[test]
        fn only_the_nucleus_is_drawn(
            logits in proptest::collection::vec(-8f32..8.0, 1..40),
            top_p in 0.05f32..0.99,
            temperature in 0.1f32..2.0,
            seed in any::<u64>(),
        ) {
            let drawn = sampler(temperature, top_p, seed).sample(&logits) as usize;
            prop_assert!(drawn < logits.len());
            // Tokens strictly likelier than the drawn one must not reach top_p by themselves.
            let weights: Vec<f64> = logits.iter().map(|l| (f64::from(*l) / f64::from(temperature)).exp()).collect();
            let total: f64 = weights.iter().sum();
            let likelier: f64 = weights.iter().filter(|w| **w > weights[drawn] * (1.0 + 1e-5)).sum();
            prop_assert!(likelier / total < f64::from(top_p) + 1e-5);
        }
    }
}
