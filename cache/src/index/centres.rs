use std::{
    collections::HashSet,
    fmt,
    hash::{Hash, Hasher},
};

use hnsw_rs::prelude::{Distance, Hnsw};
use reprise_kernels::similarity::dot;

use super::{
    IndexConfig,
    best::Best,
    code::Query,
    list::{Entry, List},
};
use crate::UnitVector;

/// Centres of the lists: read one by one, or, where there are many, through an HNSW graph (Malkov and Yashunin 2016, arXiv
/// 1603.09320).
#[derive(Debug)]
pub struct Centres {
    all: List<usize>,
    graph: Option<Graph>,
}

struct Graph {
    hnsw: Hnsw<'static, f32, UnitDistance>,
    ef_search: usize,
}

/// `1 - cos`, never negative. The crate's own panics on unit vectors (`DistDot`) or takes NaN for a match (`DistCosine`).
#[derive(Debug, Clone, Copy, Default)]
struct UnitDistance;

impl Distance<f32> for UnitDistance {
    fn eval(&self, a: &[f32], b: &[f32]) -> f32 {
        (1.0 - dot(a, b)).max(0.0)
    }
}

const LAYERS: usize = 16;
/// Breadth of the search for the one centre that a vector belongs to: the second best is nearly as good.
const EF_ASSIGN: usize = 16;
/// Vectors for each centre that it is placed by, at most.
const SAMPLE: usize = 32;
/// Times that the centres move into the middle of what is nearest to them.
const ROUNDS: usize = 2;

impl Centres {
    /// Spherical k-means (Dhillon and Modha 2001): about `count` centres among vectors of one length, of which there is at least one.
    pub fn train(vectors: &[&UnitVector], count: usize, config: &IndexConfig) -> Self {
        let sample: Vec<&UnitVector> = spread(vectors, count.saturating_mul(SAMPLE)).collect();
        let mut centres = Self::over(spread(&sample, count).cloned(), config);
        for _ in 0..ROUNDS {
            let mut sums: Vec<Vec<f32>> = vec![Vec::new(); centres.len()];
            for vector in &sample {
                let sum = &mut sums[centres.nearest(vector)];
                sum.resize(vector.dimensions(), 0.0);
                sum.iter_mut().zip(vector.as_slice()).for_each(|(sum, value)| *sum += value);
            }
            // A centre that nothing is near to is none; nor has a sum of nothing, or of opposites, a direction.
            let moved = Self::over(sums.into_iter().filter_map(|sum| UnitVector::try_new(sum).ok()), config);
            if moved.len() == 0 {
                break;
            }
            centres = moved;
        }
        centres
    }

    fn over(centres: impl Iterator<Item = UnitVector>, config: &IndexConfig) -> Self {
        let (mut all, mut seen) = (List::default(), HashSet::new());
        // Of identical centres only one would ever be the nearest. The graph takes them badly too: they fill each other's
        // neighbour lists and strand the rest.
        for vector in centres.filter(|centre| seen.insert(Bits(centre.clone()))) {
            all.push(Entry { id: all.len(), vector });
        }
        let graph = (all.len() >= config.graph_from).then(|| Graph::over(&all, config));
        Self { all, graph }
    }

    pub fn len(&self) -> usize {
        self.all.len()
    }

    /// Where a vector belongs; always the same of one vector.
    pub fn nearest(&self, vector: &UnitVector) -> usize {
        let found = match &self.graph {
            Some(graph) => graph.nearest(vector, 1, EF_ASSIGN),
            None => self.scan(vector, 1),
        };
        found.first().copied().unwrap_or(0)
    }

    /// The `n` nearest centres, nearest first; with a graph, about those.
    pub fn nearest_some(&self, vector: &UnitVector, n: usize) -> Vec<usize> {
        match &self.graph {
            Some(graph) => graph.nearest(vector, n, graph.ef_search.max(n)),
            None => self.scan(vector, n),
        }
    }

    fn scan(&self, vector: &UnitVector, n: usize) -> Vec<usize> {
        let mut best = Best::new(n, -1.0);
        self.all.search(&Query::new(vector), &mut best, &mut Vec::new());
        best.into_sorted().into_iter().map(|(centre, _)| centre).collect()
    }
}

impl Graph {
    fn over(centres: &List<usize>, config: &IndexConfig) -> Self {
        let IndexConfig { connections, ef_construction, ef_search, .. } = *config;
        let hnsw = Hnsw::new(connections, centres.len().max(1), LAYERS, ef_construction, UnitDistance);
        for Entry { id, vector } in centres.entries() {
            hnsw.insert((vector.as_slice(), *id));
        }
        Self { hnsw, ef_search }
    }

    fn nearest(&self, vector: &UnitVector, n: usize, ef: usize) -> Vec<usize> {
        self.hnsw.search(vector.as_slice(), n, ef).into_iter().map(|neighbour| neighbour.d_id).collect()
    }
}

impl fmt::Debug for Graph {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Graph").field("ef_search", &self.ef_search).finish_non_exhaustive()
    }
}

/// `count` items at equal steps, or all if there are fewer.
fn spread<'v>(items: &[&'v UnitVector], count: usize) -> impl Iterator<Item = &'v UnitVector> {
    let count = count.min(items.len());
    (0..count).map(move |at| items[at * items.len() / count])
}

/// Compares by bits: a unit vector holds no NaN, so equal bits are equal vectors.
struct Bits(UnitVector);

impl PartialEq for Bits {
    fn eq(&self, other: &Self) -> bool {
        self.0.as_slice().iter().map(|v| v.to_bits()).eq(other.0.as_slice().iter().map(|v| v.to_bits()))
    }
}

impl Eq for Bits {}

impl Hash for Bits {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.as_slice().iter().for_each(|v| state.write_u32(v.to_bits()));
    }
}
