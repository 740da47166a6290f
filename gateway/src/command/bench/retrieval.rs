use std::time::{Duration, Instant};

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use reprise_cache::{Index, IndexConfig, Instructions, UnitVector};
use serde_json::json;

#[derive(Debug, clap::Args)]
pub struct Retrieval {
    /// Vectors in the index.
    #[arg(long, default_value_t = 20_000)]
    n: usize,
    /// One JSON object on standard output; there is no other form.
    #[arg(long = "json")]
    _json: bool,
}

const DIMENSIONS: usize = 384;
const QUERIES: usize = 500;
const NEAREST: usize = 32;
/// Any seed; fixed, so that two runs search the same.
const SEED: u64 = 7;

impl Retrieval {
    pub fn run(self) -> anyhow::Result<()> {
        anyhow::ensure!(self.n > 0, "--n must be at least 1");
        let mut random = ChaCha8Rng::seed_from_u64(SEED);
        let exact = Index::new(IndexConfig { graph_from: usize::MAX, ..IndexConfig::default() });
        let graph = Index::new(IndexConfig { graph_from: 1, ..IndexConfig::default() });
        for _ in 0..self.n {
            let (id, vector) = (uuid::Uuid::now_v7().to_string().parse()?, direction(&mut random)?);
            exact.insert(id, vector.clone(), Instructions::NONE);
            graph.insert(id, vector, Instructions::NONE);
        }
        let begun = Instant::now();
        graph.rebuild_if_stale();
        let build = begun.elapsed();
        let (mut exact_times, mut graph_times, mut found) = (Vec::new(), Vec::new(), 0_usize);
        for _ in 0..QUERIES {
            let query = direction(&mut random)?;
            let truth = timed(&mut exact_times, || exact.nearest(&query, NEAREST, -1.0, Instructions::NONE));
            let guess = timed(&mut graph_times, || graph.nearest(&query, NEAREST, -1.0, Instructions::NONE));
            found += guess.iter().filter(|(id, _)| truth.iter().any(|(true_id, _)| true_id == id)).count();
        }
        let possible = QUERIES * NEAREST.min(self.n);
        let report = json!({
            "n": self.n, "dimensions": DIMENSIONS, "queries": QUERIES, "k": NEAREST,
            "vectors": "uniform random directions: the hardest case for a graph",
            "graph_build_s": build.as_secs_f64(),
            "exact_search_us": quantiles(&mut exact_times), "graph_search_us": quantiles(&mut graph_times),
            "graph_recall": found as f64 / possible as f64,
        });
        println!("{report}");
        Ok(())
    }
}

fn direction(random: &mut ChaCha8Rng) -> anyhow::Result<UnitVector> {
    Ok(UnitVector::try_new((0..DIMENSIONS).map(|_| random.random_range(-1.0..1.0)).collect())?)
}

fn timed<T>(times: &mut Vec<Duration>, work: impl FnOnce() -> T) -> T {
    let begun = Instant::now();
    let result = work();
    times.push(begun.elapsed());
    result
}

fn quantiles(times: &mut [Duration]) -> serde_json::Value {
    times.sort_unstable();
    let at = |share: f64| {
        let index = (times.len().saturating_sub(1) as f64 * share) as usize;
        times.get(index).copied().unwrap_or_default().as_secs_f64() * 1e6
    };
    json!({ "p50": at(0.5), "p99": at(0.99) })
}
