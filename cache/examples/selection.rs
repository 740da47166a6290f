//! Time of each stage of selection at some numbers of examples, on one core, as CSV: the 32 nearest, their utilities by a model of the
//! trained size, and the choice among them. The model is random, the vectors synthetic (`cache/src/bench.rs` says how).
//!
//! `cargo run --release -p reprise-cache --example selection -- [N ...]`

use std::{collections::HashMap, env, error::Error, hint::black_box, sync::Arc, time::Instant};

use rand::{Rng, SeedableRng, rngs::SmallRng};
use reprise_cache::{
    BenchConfig, Candidate, Example, ExampleId, Index, IndexConfig, Instructions, NewExample, UnitVector,
    bench_requests,
    selection::{
        Query, SelectionConfig, Utility, UtilityModel, select,
        utility::{Calibration, SCALARS, Weights},
    },
};

/// Sizes of the network that `reprise-replay learn` trains.
const PROJECTED: usize = 32;
const HIDDEN: usize = 32;
const QUERIES: usize = 500;

fn main() -> Result<(), Box<dyn Error>> {
    let mut sizes: Vec<usize> = env::args().skip(1).map(|size| size.parse()).collect::<Result<_, _>>()?;
    if sizes.is_empty() {
        sizes = vec![1000, 100_000, 1_000_000];
    }
    let model = model()?;
    let choice = SelectionConfig { tau: 0.0, ..SelectionConfig::default() };
    println!("examples,stage,p50_us,p99_us");
    for size in sizes {
        let config = BenchConfig { queries: QUERIES, ..BenchConfig::default() };
        let (vectors, queries) = bench_requests(size, &config);
        let (index, mut examples) = (Index::new(IndexConfig::default()), HashMap::new());
        for vector in vectors {
            let example = example(vector)?;
            index.insert(example.id, example.embedding.clone(), Instructions::NONE);
            examples.insert(example.id, example);
        }
        index.rebuild_if_stale();
        let mut times: [Vec<f64>; 3] = Default::default();
        for query in &queries {
            let mut timed = Timed::begin();
            let found = index.nearest(query, choice.top_k, 0.0, Instructions::NONE);
            times[0].push(timed.lap());
            let candidates = candidates(&found, &examples);
            let query = Query { embedding: query, bytes: 200, strength: 0.0 };
            let all: Vec<&Candidate> = candidates.iter().collect();
            timed.lap();
            black_box(model.scores(&query, &all));
            times[1].push(timed.lap());
            black_box(select(&query, &candidates, &model, &|example| example.bytes as u32 / 16, &choice));
            times[2].push(timed.lap());
        }
        for (stage, times) in ["nearest", "utilities", "utilities and choice"].iter().zip(&mut times) {
            times.sort_by(f64::total_cmp);
            let at = |share: f64| times[((times.len() - 1) as f64 * share) as usize];
            println!("{size},{stage},{:.1},{:.1}", at(0.5), at(0.99));
        }
    }
    Ok(())
}

struct Timed(Instant);

impl Timed {
    fn begin() -> Self {
        Self(Instant::now())
    }

    /// Microseconds since the last.
    fn lap(&mut self) -> f64 {
        let now = Instant::now();
        let took = now - self.0;
        self.0 = now;
        took.as_secs_f64() * 1e6
    }
}

fn candidates(found: &[(ExampleId, f32)], examples: &HashMap<ExampleId, Arc<Example>>) -> Vec<Candidate> {
    let candidate = |(id, similarity): &(ExampleId, f32)| {
        Some(Candidate { example: Arc::clone(examples.get(id)?), similarity: *similarity })
    };
    found.iter().filter_map(candidate).collect()
}

fn example(embedding: UnitVector) -> Result<Arc<Example>, Box<dyn Error>> {
    let new = NewExample {
        request: "r".repeat(200),
        answer: "a".repeat(100),
        instructions: Instructions::NONE,
        embedding,
        source: "large".into(),
        quality: Some(0.8),
    };
    Ok(Arc::new(Example::new(uuid::Uuid::now_v7().to_string().parse()?, new, 0)))
}

fn model() -> Result<UtilityModel, Box<dyn Error>> {
    let dimensions = BenchConfig::default().dimensions;
    let mut rng = SmallRng::seed_from_u64(1);
    let mut numbers =
        |count: usize| -> Vec<f32> { (0..count).map(|_| rng.random_range(-0.1..0.1)).collect() };
    Ok(UtilityModel::try_new(Weights {
        dimensions,
        projection: numbers(PROJECTED * dimensions),
        hidden: numbers(HIDDEN * (2 * PROJECTED + SCALARS)),
        hidden_bias: numbers(HIDDEN),
        output: numbers(HIDDEN),
        direct: numbers(SCALARS),
        bias: 0.0,
        calibration: Calibration::try_new((0..12).map(|i| (i as f32 / 12.0, i as f32 / 12.0)).collect())?,
        tau: 0.5,
        trained_on: String::new(),
    })?)
}
