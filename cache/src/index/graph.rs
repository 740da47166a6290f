use std::fmt;

use hnsw_rs::prelude::{Distance, Hnsw};

use crate::{UnitVector, vector::dot};

/// One generation of the HNSW graph over rows `0..len` (Malkov and Yashunin 2016, arXiv 1603.09320).
pub struct Graph {
    hnsw: Hnsw<'static, f32, UnitDistance>,
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

const CONNECTIONS: usize = 24;
const LAYERS: usize = 16;
const EF_CONSTRUCTION: usize = 200;

impl Graph {
    /// One thread, so that the tiers keep the other cores.
    pub fn build<'v>(vectors: impl ExactSizeIterator<Item = &'v UnitVector>) -> Self {
        let len = vectors.len();
        let hnsw = Hnsw::new(CONNECTIONS, len.max(1), LAYERS, EF_CONSTRUCTION, UnitDistance);
        for (row, vector) in vectors.enumerate() {
            hnsw.insert((vector.as_slice(), row));
        }
        Self { hnsw, len }
    }

    pub fn len(&self) -> usize {
        self.len
    }

    /// Rows of about the `k` nearest that are alive, in no order.
    pub fn search(
        &self,
        query: &UnitVector,
        k: usize,
        ef: usize,
        alive: &dyn Fn(usize) -> bool,
    ) -> Vec<usize> {
        let filter = |row: &usize| alive(*row);
        let found = self.hnsw.search_filter(query.as_slice(), k, ef.max(k), Some(&filter));
        found.into_iter().map(|neighbour| neighbour.d_id).collect()
    }
}

impl fmt::Debug for Graph {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Graph").field("len", &self.len).finish_non_exhaustive()
    }
}
