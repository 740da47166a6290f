//! How fast and how complete retrieval is: exact scan beside clusters, over the same vectors in the same run.
//!
//! The vectors are either synthetic (unit vectors in clusters of some fifty, as requests on one subject are, spread over a
//! subspace of [`INTRINSIC`] dimensions with a little noise in all others, as sentence embeddings are), or given ones: real
//! embeddings, and where there are too few of them, others scattered around them at a cosine of some 0.9. Queries are
//! further ones of the same kind. A scan's time depends on number and dimensions only; the clusters' time and recall depend
//! on how the vectors lie.

use std::{
    hint::black_box,
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use serde::Serialize;

use crate::{ExampleId, Index, IndexConfig, IndexShape, Instructions, UnitVector};

/// What is measured.
#[derive(Debug, Clone)]
pub struct BenchConfig {
    pub dimensions: usize,
    pub queries: usize,
    /// Neighbours asked for.
    pub k: usize,
    /// When clusters are used is not asked here.
    pub index: IndexConfig,
    pub seed: u64,
    /// Real vectors, in place of synthetic ones.
    pub around: Vec<UnitVector>,
}

impl Default for BenchConfig {
    fn default() -> Self {
        Self {
            dimensions: 384,
            queries: 200,
            k: 10,
            index: IndexConfig::default(),
            seed: 1,
            around: Vec::new(),
        }
    }
}

/// One run; searches on one thread, microseconds.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RetrievalReport {
    pub vectors: usize,
    pub dimensions: usize,
    pub data: &'static str,
    pub queries: usize,
    pub k: usize,
    pub shape: IndexShape,
    pub exact_p50_us: f64,
    pub exact_p99_us: f64,
    pub clusters_p50_us: f64,
    pub clusters_p99_us: f64,
    /// Share of the exact `k` nearest that the clusters found.
    pub recall: f64,
    pub build_s: f64,
    /// Searches made while the clusters were built on another thread and vectors came in.
    pub searches_during_build: usize,
    pub during_build_p50_us: f64,
    pub during_build_p99_us: f64,
    pub during_build_max_us: f64,
    /// Resident memory that the clustered index took, vectors included, for each of them; where the system tells.
    pub index_bytes_per_vector: Option<f64>,
    /// What an index in its default configuration does at this size.
    pub default_uses_clusters: bool,
}

const CLUSTER: usize = 50;
/// Dimensions in which subjects differ.
const INTRINSIC: usize = 32;
/// Length of the noise within a subject, and of that in all dimensions, beside a centre of length 1: cosine within a
/// cluster is about 1 / (1 + 0.5^2 + 0.3^2) = 0.75.
const NOISE: f32 = 0.5;
const AMBIENT: f32 = 0.3;
/// Of what is scattered around a real vector: cosine 1 / sqrt(1 + 0.48^2) = 0.9.
const SCATTER: f32 = 0.48;
/// Bytes of a page of memory, as `/proc/self/statm` counts.
const PAGE: f64 = 4096.0;

/// Measures an index of `n` vectors.
#[must_use]
pub fn bench_retrieval(n: usize, config: &BenchConfig) -> RetrievalReport {
    let mut requests = Requests::new(n, config);
    let index_config = |clusters_from| IndexConfig { clusters_from, ..config.index };
    let memory_before = resident_pages();
    let clustered = Index::new(index_config(1));
    for vector in (0..n).filter_map(|_| requests.next()) {
        clustered.insert(ExampleId::generate(), vector, Instructions::NONE);
    }
    let queries: Vec<UnitVector> = (0..config.queries).filter_map(|_| requests.next()).collect();
    let (build_s, mut during) = build_under_load(&clustered, &queries);
    let memory = resident_pages().zip(memory_before).map(|(after, before)| (after - before) * PAGE);
    // Shares its vectors with the other.
    let exact = Index::new(index_config(usize::MAX));
    for (id, vector, under) in clustered.snapshot() {
        exact.insert(id, vector, under);
    }

    let (mut exact_times, mut clusters_times) = (Vec::new(), Vec::new());
    let (mut found, mut wanted) = (0, 0);
    for query in &queries {
        // In turns, so that whatever else the machine does hits both.
        let nearest = timed(&mut exact_times, || exact.nearest(query, config.k, -1.0, Instructions::NONE));
        let about =
            timed(&mut clusters_times, || clustered.nearest(query, config.k, -1.0, Instructions::NONE));
        wanted += nearest.len();
        found += about.iter().filter(|about| nearest.iter().any(|(id, _)| *id == about.0)).count();
    }
    let vectors = exact.len();
    RetrievalReport {
        vectors,
        dimensions: queries.first().map_or(config.dimensions, UnitVector::dimensions),
        data: if config.around.is_empty() {
            "synthetic clusters"
        } else {
            "given vectors, or scattered around them"
        },
        queries: exact_times.len(),
        k: config.k,
        shape: clustered.shape(),
        exact_p50_us: quantile(&mut exact_times, 0.5),
        exact_p99_us: quantile(&mut exact_times, 0.99),
        clusters_p50_us: quantile(&mut clusters_times, 0.5),
        clusters_p99_us: quantile(&mut clusters_times, 0.99),
        recall: if wanted == 0 { 1.0 } else { found as f64 / wanted as f64 },
        build_s,
        searches_during_build: during.len(),
        during_build_p50_us: quantile(&mut during, 0.5),
        during_build_p99_us: quantile(&mut during, 0.99),
        during_build_max_us: quantile(&mut during, 1.0),
        index_bytes_per_vector: memory.map(|bytes| bytes / vectors.max(1) as f64),
        default_uses_clusters: n >= IndexConfig::default().clusters_from,
    }
}

/// Builds clusters on another thread while this one searches and changes the index; seconds, and the searches' times.
#[expect(clippy::disallowed_methods, reason = "a benchmark's own thread, which paces its requests")]
fn build_under_load(index: &Index, queries: &[UnitVector]) -> (f64, Vec<Duration>) {
    let ended = AtomicBool::new(false);
    let mut times = Vec::new();
    let build_s = std::thread::scope(|scope| {
        let build = scope.spawn(|| {
            let begun = Instant::now();
            index.rebuild_if_stale();
            ended.store(true, Ordering::Release);
            begun.elapsed().as_secs_f64()
        });
        for query in queries.iter().cycle() {
            if ended.load(Ordering::Acquire) || queries.is_empty() {
                break;
            }
            let id = ExampleId::generate();
            index.insert(id, query.clone(), Instructions::NONE);
            timed(&mut times, || index.nearest(query, 32, 0.5, Instructions::NONE));
            index.remove(id);
            // As requests come, not as fast as one thread can.
            std::thread::sleep(Duration::from_millis(5));
        }
        build.join().unwrap_or_default()
    });
    (build_s, times)
}

/// `None` where the system has no such file.
fn resident_pages() -> Option<f64> {
    let text = std::fs::read_to_string("/proc/self/statm").ok()?;
    text.split_whitespace().nth(1)?.parse().ok()
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
struct Requests<'c> {
    random: SplitMix,
    dimensions: usize,
    /// Directions that span the subspace.
    basis: Vec<Vec<f32>>,
    /// In the subspace.
    centres: Vec<Vec<f32>>,
    given: &'c [UnitVector],
    drawn: usize,
}

impl<'c> Requests<'c> {
    fn new(n: usize, config: &'c BenchConfig) -> Self {
        let mut random = SplitMix(config.seed);
        let intrinsic = INTRINSIC.min(config.dimensions);
        let basis = (0..intrinsic).map(|_| random.direction(config.dimensions, 1.0)).collect();
        let centres = (0..(n / CLUSTER).max(1)).map(|_| random.direction(intrinsic, 1.0)).collect();
        Self { random, dimensions: config.dimensions, basis, centres, given: &config.around, drawn: 0 }
    }

    fn next(&mut self) -> Option<UnitVector> {
        self.drawn += 1;
        if let Some(given) = self.given.get((self.drawn - 1) % self.given.len().max(1)) {
            if self.drawn <= self.given.len() {
                return Some(given.clone());
            }
            let mut vector = self.random.direction(given.dimensions(), SCATTER);
            vector.iter_mut().zip(given.as_slice()).for_each(|(value, at)| *value += at);
            return UnitVector::try_new(vector).ok();
        }
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
    fn a_report_is_of_what_was_asked_and_the_clusters_recall_well() {
        let config = BenchConfig { dimensions: 48, queries: 40, ..BenchConfig::default() };
        let report = bench_retrieval(1500, &config);
        assert_eq!((report.vectors, report.queries, report.dimensions), (1500, 40, 48));
        assert!(report.recall >= 0.97, "{report:?}");
        assert!(report.exact_p50_us > 0.0 && report.exact_p99_us >= report.exact_p50_us);
    }

    #[test]
    fn given_vectors_come_first_and_others_lie_around_them() {
        let given = UnitVector::try_new(vec![1.0; 64]).unwrap();
        let config = BenchConfig { around: vec![given.clone()], ..BenchConfig::default() };
        let mut requests = Requests::new(3, &config);
        assert_eq!(requests.next().unwrap(), given);
        let near = requests.next().unwrap().dot(&given);
        assert!((0.8..0.97).contains(&near), "{near}");
    }
}
