//! Time of one decision and of one update, single-threaded: `cargo run --release -p reprise-router --example bench_decide`.
//!
//! Prints one JSON object. The pool has two tiers, thus four arms; contexts carry a 384-dimensional embedding and five
//! examples; the text whose flags are guessed is as long as is looked at. Each decision is timed alone, features included, so the clock's own cost (some 40 ns) is in every figure.

use std::time::{Duration, Instant};

use rand::{Rng, SeedableRng, rngs::SmallRng};
use reprise_router::{Arm, ArmKey, ArmState, Context, Decision, Router, RouterConfig, TaskFlags};
use reprise_tier::Pressure;

const DECISIONS: usize = 200_000;
const UPDATES: usize = 20_000;
const CONTEXTS: usize = 256;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let router = Router::new(RouterConfig::default())?;
    let (mut rng, start, arms) = (SmallRng::seed_from_u64(1), Instant::now(), arms());
    // The most text that is looked at: the slowest case.
    let request = "please tell me something of interest ".repeat(60);
    let embeddings: Vec<Vec<f32>> =
        (0..CONTEXTS).map(|_| (0..384).map(|_| rng.random_range(-0.088..0.088)).collect()).collect();
    let context = |i: usize| Context {
        embedding: embeddings.get(i % CONTEXTS).map(Vec::as_slice),
        similarities: &[0.7, 0.75, 0.8, 0.85, 0.9],
        utilities: &[0.6, 0.7, 0.8, 0.8, 0.9],
        example_tokens: 300,
        prompt_tokens: 60,
        ..Context::default()
    };
    let mut decisions: Vec<Decision> = Vec::with_capacity(UPDATES);
    let mut decide_times = Vec::with_capacity(DECISIONS);
    for i in 0..DECISIONS {
        let now = start + Duration::from_millis(i as u64);
        let clock = Instant::now();
        let decision = router.decide(&context(i), &arms, now, &mut rng)?;
        decide_times.push(clock.elapsed());
        if decisions.len() < UPDATES {
            decisions.push(decision);
        }
    }
    let mut learn_times = Vec::with_capacity(UPDATES);
    for decision in &decisions {
        let experience = decision.experience(rng.random());
        let clock = Instant::now();
        router.learn(&experience);
        learn_times.push(clock.elapsed());
    }
    let decide_s: f64 = decide_times.iter().map(Duration::as_secs_f64).sum();
    let mut detect_times = Vec::with_capacity(UPDATES);
    for _ in 0..UPDATES {
        let clock = Instant::now();
        std::hint::black_box(TaskFlags::detect(std::hint::black_box(&request)));
        detect_times.push(clock.elapsed());
    }
    let report = serde_json::json!({
        "arms": arms.len(),
        "decisions": DECISIONS,
        "decisions_per_s": (DECISIONS as f64 / decide_s).round(),
        "decide_us": quantiles(&mut decide_times),
        "updates": UPDATES,
        "detect_flags_us": quantiles(&mut detect_times),
        "learn_us": quantiles(&mut learn_times),
    });
    println!("{report}");
    Ok(())
}

fn quantiles(times: &mut [Duration]) -> serde_json::Value {
    times.sort_unstable();
    let at =
        |q: f64| times.get((times.len() as f64 * q) as usize).map(|time| time.as_nanos() as f64 / 1000.0);
    serde_json::json!({ "p50": at(0.5), "p99": at(0.99), "p99_9": at(0.999), "max": times.last().map(|t| t.as_nanos() as f64 / 1000.0) })
}

fn arms() -> Vec<ArmState> {
    [("small", 0.1), ("large", 1.0)]
        .into_iter()
        .enumerate()
        .flat_map(|(tier, (name, cost))| {
            [false, true].map(|examples| ArmState {
                arm: Arm { tier, examples },
                key: ArmKey { tier: name.into(), model: name.into(), examples },
                cost,
                context_length: 4096,
                ready: true,
                pressure: Pressure::default(),
            })
        })
        .collect()
}
