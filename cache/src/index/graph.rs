use std::{
    collections::{HashMap, hash_map::Entry},
    fmt,
    hash::{Hash, Hasher},
};

use hnsw_rs::prelude::{Distance, Hnsw, Neighbour};

use super::IndexConfig;
use crate::{UnitVector, vector::dot};

/// One generation of the HNSW graph over rows `0..len` (Malkov and Yashunin 2016, arXiv 1603.09320).
///
/// A *point* is a distinct vector. Rows with the very same vector (two long texts that an embedder cuts at the same
/// place) share one: identical points fill each other's neighbour lists and strand the rest of the graph.
pub struct Graph {
    hnsw: Hnsw<'static, f32, UnitDistance>,
    /// Of each point, the first row.
    first: Vec<usize>,
    /// Of points with several rows, the others.
    twins: HashMap<usize, Vec<usize>>,
    len: usize,
}

/// `1 - cos`, never negative. The crate's own panics on unit vectors (`DistDot`) or takes NaN for a match (`DistCosine`).
#[derive(Debug, Clone, Copy, Default)]
struct UnitDistance;

impl Distance<f32> for UnitDistance {
    fn eval(&self, a: &[f32], b: &[f32]) -> f32 {
        (1.0 - dot(a, b)).max(0.0)
    }
}

/// Compares by bits: unit vectors hold no NaN, so equal bits are equal vectors.
struct Bits<'v>(&'v [f32]);

impl PartialEq for Bits<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.0.iter().map(|v| v.to_bits()).eq(other.0.iter().map(|v| v.to_bits()))
    }
}

impl Eq for Bits<'_> {}

impl Hash for Bits<'_> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.iter().for_each(|v| state.write_u32(v.to_bits()));
    }
}

const LAYERS: usize = 16;

impl Graph {
    /// One thread, so that the tiers keep the other cores.
    pub fn build<'v>(vectors: impl ExactSizeIterator<Item = &'v UnitVector>, config: &IndexConfig) -> Self {
        let len = vectors.len();
        let hnsw = Hnsw::new(config.connections, len.max(1), LAYERS, config.ef_construction, UnitDistance);
        let mut points: HashMap<Bits<'v>, usize> = HashMap::with_capacity(len);
        let (mut first, mut twins) = (Vec::with_capacity(len), HashMap::<usize, Vec<usize>>::new());
        for (row, vector) in vectors.enumerate() {
            match points.entry(Bits(vector.as_slice())) {
                Entry::Occupied(point) => twins.entry(*point.get()).or_default().push(row),
                Entry::Vacant(new) => {
                    let point = first.len();
                    new.insert(point);
                    first.push(row);
                    hnsw.insert((vector.as_slice(), point));
                }
            }
        }
        Self { hnsw, first, twins, len }
    }

    /// Rows covered.
    pub fn len(&self) -> usize {
        self.len
    }

    #[cfg(test)]
    pub fn points(&self) -> usize {
        self.hnsw.get_nb_point()
    }

    /// Living rows at about the `k` nearest points that have any, in no order.
    ///
    /// Dead rows are few (a rebuild drops them), so they are taken out of an unfiltered search's `ef` findings. Only
    /// where that leaves less than `k` (all around the query died) the crate's own filter is used: it finds what lives
    /// farther off, but does not stop early, and takes some five times as long.
    pub fn search(
        &self,
        query: &UnitVector,
        k: usize,
        ef: usize,
        alive: &dyn Fn(usize) -> bool,
    ) -> Vec<usize> {
        let breadth = ef.max(k);
        let found = self.living(self.hnsw.search(query.as_slice(), breadth, breadth), alive);
        if found.len() >= k {
            return found;
        }
        let filter = |point: &usize| self.rows(*point).any(alive);
        self.living(self.hnsw.search_filter(query.as_slice(), k, breadth, Some(&filter)), alive)
    }

    fn living(&self, found: Vec<Neighbour>, alive: &dyn Fn(usize) -> bool) -> Vec<usize> {
        found.into_iter().flat_map(|neighbour| self.rows(neighbour.d_id)).filter(|row| alive(*row)).collect()
    }

    fn rows(&self, point: usize) -> impl Iterator<Item = usize> + '_ {
        let others = self.twins.get(&point).map_or(&[][..], Vec::as_slice);
        self.first.get(point).into_iter().chain(others).copied()
    }
}

impl fmt::Debug for Graph {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Graph").field("len", &self.len).finish_non_exhaustive()
    }
}
