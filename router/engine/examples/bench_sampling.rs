//! How long one choice takes, for the vocabulary of Qwen2.5: microseconds per row, median of many.
//! `cargo run --release -p reprise-engine --example bench_sampling`
#![expect(clippy::expect_used, reason = "a tool for developers")]

use std::{num::NonZeroU32, time::Instant};

use rand::{Rng, SeedableRng, rngs::SmallRng};
use reprise_engine::inspect::Sampler;
use reprise_tier::Sampling;

const VOCABULARY: usize = 151_936;
const ROWS: usize = 400;

fn main() {
    let mut random = SmallRng::seed_from_u64(1);
    // About normal with deviation 3, and a few tokens that stand out, as a model's logits are.
    let mut normal = || (0..12).map(|_| random.random::<f32>()).sum::<f32>() * 3.0 - 18.0;
    let mut logits: Vec<f32> = (0..VOCABULARY).map(|_| normal()).collect();
    for (index, logit) in logits.iter_mut().step_by(9973).enumerate() {
        *logit = 16.0 - index as f32 * 0.7;
    }
    let flat = vec![1.0; VOCABULARY];
    let plain = Sampling { seed: Some(1), ..Sampling::default() };
    let greedy = Sampling { temperature: 0.0, ..plain.clone() };
    let cases = [
        ("copy of the row alone", None),
        ("greedy", Some(greedy.clone())),
        ("greedy, logprobs 20", Some(Sampling { logprobs: Some(20), ..greedy.clone() })),
        ("greedy, penalties", Some(Sampling { frequency_penalty: 0.5, ..greedy })),
        ("temperature 1", Some(plain.clone())),
        ("top_p 0.9", Some(Sampling { top_p: 0.9, ..plain.clone() })),
        ("top_k 50", Some(Sampling { top_k: NonZeroU32::new(50), ..plain.clone() })),
        ("min_p 0.05", Some(Sampling { min_p: 0.05, ..plain })),
    ];
    for (name, sampling) in cases {
        println!(
            "{name:24} {:8.1} us   {:8.1} us on a flat row",
            median(&sampling, &logits),
            median(&sampling, &flat)
        );
    }
}

fn median(sampling: &Option<Sampling>, logits: &[f32]) -> f64 {
    let mut sampler = sampling.as_ref().map(Sampler::new);
    let mut row = logits.to_vec();
    let mut times: Vec<f64> = (0..ROWS)
        .map(|_| {
            let begun = Instant::now();
            row.copy_from_slice(logits);
            if let Some(sampler) = &mut sampler {
                std::hint::black_box(sampler.sample(&mut row).expect("a token"));
            }
            begun.elapsed().as_secs_f64() * 1e6
        })
        .collect();
    times.sort_by(f64::total_cmp);
    times[ROWS / 2]
}
