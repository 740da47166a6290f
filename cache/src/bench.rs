//! How fast and how complete retrieval is: exact search beside inverted lists, over the same vectors in the same run.
//!
//! The vectors are synthetic: unit vectors in clusters of some fifty, as requests on one subject are, spread over a
//! subspace of [`INTRINSIC`] dimensions with a little noise in all others, as sentence embeddings are. Queries are new
//! members of the clusters. Times and recall depend on how the vectors lie, so read them as those of such data, not of any one
//! embedder; `cache/embedder/examples/recall.rs` measures them on real texts.

use std::{
    hint::black_box,
    time::{Duration, Instant},
};

use serde::Serialize;

use crate::{ExampleId, Index, IndexConfig, Instructions, UnitVector};

/// What is measured.
#[derive(Debug, Clone, Copy)]
pub struct BenchConfig {
    pub dimensions: usize,
    pub queries: usize,
    /// Neighbours asked for.
    pub k: usize,
    /// Of the lists; when they are used is not asked here.
    pub index: IndexConfig,
    pub seed: u64,
}

impl Default for BenchConfig {
    fn default() -> Self {
        Self { dimensions: 384, queries: 200, k: 10, index: IndexConfig::default(), seed: 1 }
    }
}

/// One run, on one thread.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RetrievalReport {
    pub vectors: usize,
    pub dimensions: usize,
    pub queries: usize,
    pub k: usize,
    pub probes: usize,
    pub lists_per_root: f32,
    pub exact_p50_us: f64,
    pub exact_p99_us: f64,
    pub ivf_p50_us: f64,
    pub ivf_p99_us: f64,
    /// Share of the exact `k` nearest that the lists gave.
    pub ivf_recall: f64,
    pub ivf_build_s: f64,
    /// Of index and vectors, texts apart.
    pub bytes_per_vector: usize,
    /// What an index in its default configuration does at this size.
    pub default_uses_ivf: bool,
}

impl RetrievalReport {
    pub const CSV_HEADER: &'static str = "vectors,dimensions,queries,k,probes,lists_per_root,exact_p50_us,exact_p99_us,ivf_p50_us,ivf_p99_us,ivf_recall,ivf_build_s,bytes_per_vector";

    /// A line without its end, as [`Self::CSV_HEADER`].
    #[must_use]
    pub fn csv(&self) -> String {
        format!(
            "{},{},{},{},{},{},{:.1},{:.1},{:.1},{:.1},{:.4},{:.2},{}",
            self.vectors,
            self.dimensions,
            self.queries,
            self.k,
            self.probes,
            self.lists_per_root,
            self.exact_p50_us,
            self.exact_p99_us,
            self.ivf_p50_us,
            self.ivf_p99_us,
            self.ivf_recall,
            self.ivf_build_s,
            self.bytes_per_vector,
        )
    }
}

const CLUSTER: usize = 50;
/// Dimensions in which subjects differ.
const INTRINSIC: usize = 32;
/// Length of the noise within a subject, and of that in all dimensions, beside a centre of length 1: cosine within a
/// cluster is about 1 / (1 + 0.5^2 + 0.3^2) = 0.75.
const NOISE: f32 = 0.5;
const AMBIENT: f32 = 0.3;

/// Measures an index of `n` vectors. Takes about 0.1 ms a vector, to build the lists.
#[must_use]
pub fn bench_retrieval(n: usize, config: &BenchConfig) -> RetrievalReport {
    let (vectors, queries) = bench_requests(n, config);
    bench_vectors(&vectors, &queries, config)
}

/// `n` synthetic vectors, and the queries.
#[must_use]
pub fn bench_requests(n: usize, config: &BenchConfig) -> (Vec<UnitVector>, Vec<UnitVector>) {
    let mut requests = Requests::new(n, config);
    let vectors = (0..n).filter_map(|_| requests.next()).collect();
    (vectors, (0..config.queries).filter_map(|_| requests.next()).collect())
}

/// Measures an index of these vectors with these queries.
#[must_use]
pub fn bench_vectors(
    vectors: &[UnitVector],
    queries: &[UnitVector],
    config: &BenchConfig,
) -> RetrievalReport {
    let index_config = |ivf_from| IndexConfig { ivf_from, ..config.index };
    let (exact, ivf) = (Index::new(index_config(usize::MAX)), Index::new(index_config(1)));
    for vector in vectors {
        let id = ExampleId::generate();
        exact.insert(id, vector.clone(), Instructions::NONE);
        ivf.insert(id, vector.clone(), Instructions::NONE);
    }
    let begun = Instant::now();
    ivf.rebuild_if_stale();
    let ivf_build_s = begun.elapsed().as_secs_f64();

    let (mut exact_times, mut ivf_times) = (Vec::new(), Vec::new());
    let (mut found, mut wanted) = (0, 0);
    for query in queries {
        // In turns, so that whatever else the machine does hits both.
        let nearest = timed(&mut exact_times, || exact.nearest(query, config.k, -1.0, Instructions::NONE));
        let about = timed(&mut ivf_times, || ivf.nearest(query, config.k, -1.0, Instructions::NONE));
        wanted += nearest.len();
        found += about.iter().filter(|about| nearest.iter().any(|(id, _)| *id == about.0)).count();
    }
    RetrievalReport {
        vectors: exact.len(),
        dimensions: config.dimensions,
        queries: exact_times.len(),
        k: config.k,
        probes: config.index.probes,
        lists_per_root: config.index.lists_per_root,
        exact_p50_us: quantile(&mut exact_times, 0.5),
        exact_p99_us: quantile(&mut exact_times, 0.99),
        ivf_p50_us: quantile(&mut ivf_times, 0.5),
        ivf_p99_us: quantile(&mut ivf_times, 0.99),
        ivf_recall: if wanted == 0 { 1.0 } else { found as f64 / wanted as f64 },
        ivf_build_s,
        bytes_per_vector: Index::bytes_per_vector(config.dimensions),
        default_uses_ivf: vectors.len() >= IndexConfig::default().ivf_from,
    }
}

fn timed<T>(times: &mut Vec<Duration>, work: impl FnOnce() -> T) -> T {
    let begun = Instant::now();
    let done = black_box(work());
    times.push(begun.elapsed());
    done
}

/// In microseconds; nearest rank.
fn quantile(times: &mut [Duration], q: f64) -> f64 {
    times.sort_unstable();
    let rank = (q * times.len() as f64).ceil() as usize;
    times.get(rank.saturating_sub(1)).map_or(0.0, |time| time.as_secs_f64() * 1e6)
}

/// Steele, Lea, Flood 2014: enough to scatter vectors, and the same on every machine.
struct SplitMix(u64);

impl SplitMix {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// About normal: the sum of four uniform numbers, centred.
    fn normal(&mut self) -> f32 {
        (0..4).map(|_| (self.next() >> 40) as f32 / (1 << 24) as f32 - 0.5).sum()
    }

    /// Of the given length, any direction.
    fn direction(&mut self, dimensions: usize, length: f32) -> Vec<f32> {
        let mut values: Vec<f32> = (0..dimensions).map(|_| self.normal()).collect();
        let norm = values.iter().map(|value| value * value).sum::<f32>().sqrt().max(f32::MIN_POSITIVE);
        values.iter_mut().for_each(|value| *value *= length / norm);
        values
    }
}

/// Where the vectors come from.
struct Requests {
    random: SplitMix,
    dimensions: usize,
    /// Directions that span the subspace.
    basis: Vec<Vec<f32>>,
    /// In the subspace.
    centres: Vec<Vec<f32>>,
}

impl Requests {
    fn new(n: usize, config: &BenchConfig) -> Self {
        let mut random = SplitMix(config.seed);
        let intrinsic = INTRINSIC.min(config.dimensions);
        let basis = (0..intrinsic).map(|_| random.direction(config.dimensions, 1.0)).collect();
        let centres = (0..(n / CLUSTER).max(1)).map(|_| random.direction(intrinsic, 1.0)).collect();
        Self { random, dimensions: config.dimensions, basis, centres }
    }

    fn next(&mut self) -> Option<UnitVector> {
        let centre = &self.centres[(self.random.next() % self.centres.len() as u64) as usize];
        let noise = self.random.direction(self.basis.len(), NOISE);
        let mut vector = self.random.direction(self.dimensions, AMBIENT);
        for ((direction, centre), noise) in self.basis.iter().zip(centre).zip(noise) {
            vector.iter_mut().zip(direction).for_each(|(value, axis)| *value += (centre + noise) * axis);
        }
        UnitVector::try_new(vector).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_is_of_what_was_asked_and_lists_recall_well() {
        let config = BenchConfig { dimensions: 48, queries: 40, ..BenchConfig::default() };
        let report = bench_retrieval(1500, &config);
        assert_eq!((report.vectors, report.queries, report.dimensions), (1500, 40, 48));
        assert!(report.ivf_recall >= 0.98, "{report:?}");
        assert!(report.exact_p50_us > 0.0 && report.exact_p99_us >= report.exact_p50_us);
    }
}
