//! The whole pipeline against its definition, computed the slow way, and against the frequencies that it must have.

use std::num::NonZeroU32;

use proptest::prelude::*;

use super::*;

fn sampling(temperature: f32, seed: u64) -> Sampling {
    Sampling { temperature, seed: Some(seed), ..Sampling::default() }
}

fn draws(sampling: &Sampling, logits: &[f32], count: usize) -> Vec<u32> {
    let mut sampler = Sampler::new(sampling);
    (0..count).map(|_| sampler.sample(&mut logits.to_vec()).expect("a token").token).collect()
}

/// Probabilities by the definition, in f64 and with sorting.
fn probabilities(sampling: &Sampling, logits: &[f32]) -> Vec<f64> {
    let scaled: Vec<f64> = logits.iter().map(|l| f64::from(*l) / f64::from(sampling.temperature)).collect();
    let top = scaled.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let mut weights: Vec<f64> = scaled.iter().map(|l| (l - top).exp()).collect();
    let mut order: Vec<usize> = (0..logits.len()).collect();
    order.sort_by(|a, b| logits[*b].total_cmp(&logits[*a]).then(a.cmp(b)));
    for (rank, token) in order.iter().enumerate() {
        let beyond = sampling.top_k.is_some_and(|k| rank >= k.get() as usize);
        if beyond || weights[*token] < f64::from(sampling.min_p) {
            weights[*token] = 0.0;
        }
    }
    let total: f64 = weights.iter().sum();
    let mut sum = 0.0;
    for token in order {
        if sum >= f64::from(sampling.top_p) * total {
            weights[token] = 0.0;
        }
        sum += weights[token];
    }
    let total: f64 = weights.iter().sum();
    weights.iter().map(|weight| weight / total).collect()
}

/// Pearson's statistic of `count` draws, and its degrees of freedom; tokens expected less than 8 times are taken together.
fn chi_square(drawn: &[u32], probabilities: &[f64]) -> (f64, f64) {
    let mut seen = vec![0.0; probabilities.len()];
    drawn.iter().for_each(|token| seen[*token as usize] += 1.0);
    let (mut statistic, mut cells, mut rare) = (0.0, 0.0, (0.0, 0.0));
    for (seen, probability) in seen.iter().zip(probabilities) {
        let expected = probability * drawn.len() as f64;
        if expected < 8.0 {
            assert!(*probability > 0.0 || *seen == 0.0, "what cannot be was drawn");
            rare = (rare.0 + seen, rare.1 + expected);
        } else {
            statistic += (seen - expected).powi(2) / expected;
            cells += 1.0;
        }
    }
    if rare.1 >= 8.0 {
        statistic += (rare.0 - rare.1).powi(2) / rare.1;
        cells += 1.0;
    }
    (statistic, cells - 1.0)
}

#[test]
fn frequencies_follow_the_definition() {
    // Flat enough for many tokens to matter, over some blocks and a part of one.
    let logits: Vec<f32> =
        (0..300).map(|i: u32| (i.wrapping_mul(2_654_435_761) >> 20) as f32 / 1024.0).collect();
    let cases = [
        sampling(1.0, 1),
        sampling(0.4, 2),
        Sampling { top_p: 0.7, ..sampling(1.0, 3) },
        Sampling { top_k: NonZeroU32::new(20), ..sampling(1.3, 4) },
        Sampling { min_p: 0.2, ..sampling(1.0, 5) },
        Sampling { top_k: NonZeroU32::new(90), min_p: 0.05, top_p: 0.8, ..sampling(0.8, 6) },
    ];
    for case in cases {
        let drawn = draws(&case, &logits, 30_000);
        let (statistic, freedom) = chi_square(&drawn, &probabilities(&case, &logits));
        // Four standard deviations above its mean; a fixed seed makes it the same number for ever.
        let bound = freedom + 4.0 * (2.0 * freedom).sqrt();
        assert!(freedom > 5.0 && statistic < bound, "{case:?}: {statistic} over {bound}");
    }
}

#[test]
fn draws_follow_the_seed_alone() {
    let row =
        |step: usize| -> Vec<f32> { (0..200).map(|i| ((i * 31 + step * 17) % 23) as f32 / 5.0).collect() };
    let alone: Vec<u32> = {
        let mut sampler = Sampler::new(&sampling(1.0, 7));
        (0..40).map(|step| sampler.sample(&mut row(step)).expect("a token").token).collect()
    };
    // Among others that draw between.
    let mut sampler = Sampler::new(&sampling(1.0, 7));
    let mut other = Sampler::new(&sampling(1.0, 8));
    let mut unseeded = Sampler::new(&Sampling::default());
    let among: Vec<u32> = (0..40)
        .map(|step| {
            other.sample(&mut row(step)).expect("a token");
            unseeded.sample(&mut row(step)).expect("a token");
            sampler.sample(&mut row(step)).expect("a token").token
        })
        .collect();
    assert_eq!(alone, among);
    let mut other = Sampler::new(&sampling(1.0, 8));
    let others: Vec<u32> = (0..40).map(|step| other.sample(&mut row(step)).expect("a token").token).collect();
    assert_ne!(alone, others);
}

#[test]
fn bias_forces_and_forbids_and_logprobs_stay_the_models_own() {
    let bias = vec![(1, 100.0), (3, -100.0)];
    let forced = Sampling { logit_bias: bias, logprobs: Some(2), ..sampling(1.0, 1) };
    let logits = [0.0, 1.0, 2.0, 9.0];
    let chosen = Sampler::new(&forced).sample(&mut logits.to_vec()).expect("a token");
    assert_eq!(chosen.token, 1);
    let told = chosen.logprobs.expect("asked for");
    let plain = Sampling { logprobs: Some(4), ..sampling(0.0, 1) };
    let raw =
        Sampler::new(&plain).sample(&mut logits.to_vec()).expect("a token").logprobs.expect("asked for");
    assert_eq!(told.top, raw.top[..2]);
    assert_eq!(told.chosen, raw.top[2].1);
    assert!(
        Sampler::new(&sampling(0.0, 1)).sample(&mut logits.to_vec()).expect("a token").logprobs.is_none()
    );
}

#[test]
fn penalties_let_others_have_a_turn() {
    let greedy = Sampling { presence_penalty: 2.0, ..sampling(0.0, 1) };
    assert_eq!(draws(&greedy, &[3.0, 2.0, 0.5], 4), [0, 1, 0, 0]);
    let greedy = Sampling { frequency_penalty: 1.5, ..sampling(0.0, 1) };
    assert_eq!(draws(&greedy, &[3.0, 2.0, -9.0], 4), [0, 1, 0, 1]);
    let greedy = Sampling { repetition_penalty: 2.0, ..sampling(0.0, 1) };
    assert_eq!(draws(&greedy, &[3.0, 2.0, -9.0], 4), [0, 1, 0, 0]);
}

/// Allows even tokens, then odd ones, in turn.
#[derive(Debug)]
struct Alternating(u32);

impl TokenMask for Alternating {
    fn allow(&mut self, mask: &mut Mask) {
        (0..1000).filter(|token| token % 2 == self.0).for_each(|token| mask.allow(token));
    }

    fn accept(&mut self, token: u32) {
        assert_eq!(token % 2, self.0);
        self.0 = 1 - self.0;
    }
}

#[test]
fn a_mask_is_kept_and_follows_what_was_chosen() {
    for temperature in [0.0, 1.0] {
        let mut sampler = Sampler::new(&sampling(temperature, 1)).with_mask(Box::new(Alternating(0)));
        for step in 0..50 {
            let chosen = sampler.sample(&mut (0..100).map(|i| (i % 7) as f32).collect::<Vec<_>>());
            assert_eq!(chosen.expect("a token").token % 2, step % 2);
        }
    }
    let mut stuck = Sampler::new(&sampling(1.0, 1)).with_mask(Box::new(Alternating(1)));
    assert_eq!(stuck.sample(&mut [1.0]), Err(SamplingError::NothingAllowed));
}

#[test]
fn a_row_without_numbers_is_an_error_and_infinities_are_not() {
    for temperature in [0.0, 1.0] {
        let mut sampler = Sampler::new(&Sampling { logprobs: Some(3), ..sampling(temperature, 1) });
        assert_eq!(sampler.sample(&mut [f32::NAN, f32::NEG_INFINITY]), Err(SamplingError::NoNumber));
        assert_eq!(sampler.sample(&mut []), Err(SamplingError::NoNumber));
        assert_eq!(sampler.sample(&mut [0.0, f32::INFINITY, f32::NAN]).expect("a token").token, 1);
    }
}

#[test]
fn an_unknown_token_in_the_bias_is_the_clients_fault() {
    let biased = Sampling { logit_bias: vec![(9, 1.0), (10, 1.0)], ..Sampling::default() };
    assert!(check(&biased, 11).is_ok());
    let error = check(&biased, 10).expect_err("there is no token 10");
    assert!(
        matches!(error, TierError::InvalidRequest { ref param, .. } if param == "logit_bias"),
        "{error:?}"
    );
}

proptest! {
    #[test]
    fn only_what_the_definition_leaves_is_drawn(
        logits in prop::collection::vec(prop_oneof![20 => -8f32..8.0, 1 => Just(f32::NEG_INFINITY)], 1..400),
        temperature in 0.1f32..2.0, top_p in 0.05f32..=1.0, min_p in prop_oneof![Just(0.0f32), 0.01f32..1.0],
        top_k in 0u32..40, seed in any::<u64>(),
    ) {
        prop_assume!(logits.iter().any(|logit| logit.is_finite()));
        let case = Sampling { top_p, min_p, top_k: NonZeroU32::new(top_k), ..sampling(temperature, seed) };
        let token = draws(&case, &logits, 1)[0] as usize;
        // A hair wider than the definition: at the very edge rounding decides.
        let wider = Sampling { top_p: (top_p + 1e-4).min(1.0), min_p: min_p * (1.0 - 1e-4), ..case };
        prop_assert!(probabilities(&wider, &logits)[token] > 0.0, "{} of {:?}", token, wider);
    }

    #[test]
    fn any_row_gives_a_likely_token_or_an_error(
        mut logits in prop::collection::vec(prop_oneof![
            any::<f32>(), Just(f32::NAN), Just(f32::INFINITY), Just(f32::NEG_INFINITY), -1f32..1.0], 0..200),
        temperature in 0f32..2.0, top_p in 0.01f32..=1.0, top_k in 0u32..9, min_p in 0f32..=1.0,
        repetition_penalty in 0.1f32..2.0, frequency_penalty in -2f32..2.0,
    ) {
        let case = Sampling {
            top_p, min_p, top_k: NonZeroU32::new(top_k), repetition_penalty, frequency_penalty, logprobs: Some(5),
            ..sampling(temperature, 1)
        };
        let mut sampler = Sampler::new(&case);
        for step in 0..3 {
            let before = logits.clone();
            match sampler.sample(&mut logits) {
                Ok(chosen) => {
                    prop_assert!(before[chosen.token as usize] > f32::NEG_INFINITY);
                    let told = chosen.logprobs.expect("asked for");
                    prop_assert!(told.chosen <= 0.0 && told.top.iter().all(|(_, logprob)| *logprob <= 0.0));
                }
                Err(error) => {
                    prop_assert_eq!(error, SamplingError::NoNumber);
                    // Later a penalty may have pushed the last number over the edge of f32.
                    prop_assert!(step > 0 || !before.iter().any(|logit| *logit > f32::NEG_INFINITY));
                }
            }
        }
    }
}
