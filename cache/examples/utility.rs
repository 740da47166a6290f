//! Time of scoring 32 candidates with a utility model of the trained size, on one core.
//!
//! `cargo run --release -p reprise-cache --example utility [RUNS]`

use std::{env, error::Error, hint::black_box, sync::Arc, time::Instant};

use rand::{Rng, SeedableRng, rngs::SmallRng};
use reprise_cache::{
    Candidate, Example, Instructions, UnitVector,
    selection::{
        Query, SimilarityPrior, Utility, UtilityModel,
        utility::{Calibration, SCALARS, Weights},
    },
};

const DIMENSIONS: usize = 384;
/// Sizes of the network that `reprise-replay learn` trains.
const PROJECTED: usize = 32;
const HIDDEN: usize = 32;
const CANDIDATES: usize = 32;

fn main() -> Result<(), Box<dyn Error>> {
    let runs: usize = env::args().nth(1).map_or(Ok(2000), |runs| runs.parse())?;
    let mut rng = SmallRng::seed_from_u64(1);
    let mut numbers =
        |count: usize| -> Vec<f32> { (0..count).map(|_| rng.random_range(-0.1..0.1)).collect() };
    let model = UtilityModel::try_new(Weights {
        dimensions: DIMENSIONS,
        projection: numbers(PROJECTED * DIMENSIONS),
        hidden: numbers(HIDDEN * (2 * PROJECTED + SCALARS)),
        hidden_bias: numbers(HIDDEN),
        output: numbers(HIDDEN),
        direct: numbers(SCALARS),
        bias: 0.0,
        calibration: Calibration::try_new((0..12).map(|i| (i as f32 / 12.0, i as f32 / 12.0)).collect())?,
        tau: 0.5,
        trained_on: String::new(),
    })?;
    let query = UnitVector::try_new(numbers(DIMENSIONS))?;
    let candidates = (0..CANDIDATES)
        .map(|_| {
            let embedding = UnitVector::try_new(numbers(DIMENSIONS))?;
            let similarity = embedding.dot(&query);
            let example = Example {
                id: uuid::Uuid::now_v7().to_string().parse()?,
                request: "r".repeat(200),
                answer: "a".repeat(100),
                instructions: Instructions::NONE,
                embedding,
                source: "large".into(),
                quality: Some(0.8),
                created_at_ms: 0,
                updated_at_ms: 0,
                value: 0.0,
                valued_at_ms: 0,
                replay_gain: 0.0,
                uses: 0,
                missed: 0,
                replays: 0,
                merged: 0,
                bytes: 0,
            };
            Ok(Candidate { example: Arc::new(example), similarity })
        })
        .collect::<Result<Vec<_>, Box<dyn Error>>>()?;
    let candidates: Vec<&Candidate> = candidates.iter().collect();
    let query = Query { embedding: &query, bytes: 200, strength: 0.0 };
    for (name, utility) in [("model", &model as &dyn Utility), ("prior", &SimilarityPrior)] {
        let mut times: Vec<f64> = (0..runs)
            .map(|_| {
                let begun = Instant::now();
                black_box(utility.scores(black_box(&query), &candidates));
                begun.elapsed().as_secs_f64() * 1e6
            })
            .collect();
        times.sort_by(f64::total_cmp);
        let at = |share: f64| times[((times.len() - 1) as f64 * share) as usize];
        println!(
            "{name}: {CANDIDATES} candidates, {runs} runs: p50 {:.1} us, p99 {:.1} us",
            at(0.5),
            at(0.99)
        );
    }
    Ok(())
}
