//! Nearest vectors of one partition: exact where that is fast enough, a graph above.
//!
//! Derived state: never stored, always rebuilt from the store. Rows are only appended and marked dead. A *generation* of
//! the graph covers the rows that were there when it was built; rows behind it are scanned exactly, so that a new row is
//! found at once. Building happens on the caller's maintenance thread, beside searches, and is swapped in by pointer.
//! hnsw_rs has no deletion, hence the filter, and takes identical vectors badly, hence one point for all of them.

mod graph;

use std::{collections::HashMap, sync::Arc};

use parking_lot::RwLock;

use crate::{ExampleId, Instructions, UnitVector};
use graph::Graph;

/// When the graph is used.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct IndexConfig {
    /// Live rows from which a graph is built. `cache/bench` holds the run that found the crossing.
    pub graph_from: usize,
    /// A new generation is built when this share of the rows is dead, or not yet in the graph.
    pub stale_share: f32,
    /// Breadth of the graph's search: recall for time.
    pub ef_search: usize,
    /// Neighbours that a point keeps in a layer (M); twice as many in the lowest.
    pub connections: usize,
    /// Breadth of the search for a new point's neighbours.
    pub ef_construction: usize,
}

impl Default for IndexConfig {
    fn default() -> Self {
        Self { graph_from: 14_000, stale_share: 0.2, ef_search: 128, connections: 24, ef_construction: 200 }
    }
}

/// Vectors by id.
#[derive(Debug, Default)]
pub struct Index {
    config: IndexConfig,
    /// Read by searches, written by one row at a time, and replaced as a whole by a rebuild.
    rows: RwLock<Rows>,
}

#[derive(Debug, Default)]
struct Rows {
    rows: Vec<Row>,
    by_id: HashMap<ExampleId, usize>,
    graph: Option<Arc<Graph>>,
}

#[derive(Debug, Clone)]
struct Row {
    id: ExampleId,
    vector: UnitVector,
    /// A search finds rows of its own instructions only.
    under: Instructions,
    alive: bool,
}

impl Rows {
    fn alive(&self) -> usize {
        self.by_id.len()
    }

    fn covered(&self) -> usize {
        self.graph.as_ref().map_or(0, |graph| graph.len())
    }

    fn is_stale(&self, config: &IndexConfig) -> bool {
        let dead = self.rows.len() - self.alive();
        let share = config.stale_share * self.rows.len() as f32;
        let many_dead = dead > 0 && dead as f32 > share;
        let graph_wanted = self.alive() >= config.graph_from;
        let behind = graph_wanted && (self.rows.len() - self.covered()) as f32 > share;
        many_dead || behind
    }
}

impl Index {
    #[must_use]
    pub fn new(config: IndexConfig) -> Self {
        Self { config, rows: RwLock::default() }
    }

    #[must_use]
    pub fn len(&self) -> usize {
        self.rows.read().alive()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// True if a graph answers for part of the rows.
    #[must_use]
    pub fn has_graph(&self) -> bool {
        self.rows.read().graph.is_some()
    }

    /// Adds a row, or puts another vector in its place.
    pub fn insert(&self, id: ExampleId, vector: UnitVector, under: Instructions) {
        let mut rows = self.rows.write();
        let next = rows.rows.len();
        if let Some(old) = rows.by_id.insert(id, next) {
            rows.rows[old].alive = false;
        }
        rows.rows.push(Row { id, vector, under, alive: true });
    }

    pub fn remove(&self, id: ExampleId) -> bool {
        let mut rows = self.rows.write();
        let Some(row) = rows.by_id.remove(&id) else { return false };
        rows.rows[row].alive = false;
        true
    }

    /// The `k` nearest under these instructions with their exact similarity, nearest first; none below `floor`.
    #[must_use]
    pub fn nearest(
        &self,
        query: &UnitVector,
        k: usize,
        floor: f32,
        under: Instructions,
    ) -> Vec<(ExampleId, f32)> {
        if k == 0 {
            return Vec::new();
        }
        let rows = self.rows.read();
        let mut found: Vec<(ExampleId, f32)> = Vec::with_capacity(2 * k);
        if let Some(graph) = &rows.graph {
            let wanted = |row: usize| rows.rows.get(row).is_some_and(|row| row.alive && row.under == under);
            for row in graph.search(query, k, self.config.ef_search, &wanted) {
                let row = &rows.rows[row];
                found.push((row.id, row.vector.dot(query)));
            }
        }
        for row in rows.rows[rows.covered()..].iter().filter(|row| row.alive && row.under == under) {
            let similarity = row.vector.dot(query);
            if similarity >= floor {
                found.push((row.id, similarity));
                // Keeps the buffer at a few k without sorting at each step.
                if found.len() >= 8 * k + 64 {
                    keep_nearest(&mut found, k);
                }
            }
        }
        found.retain(|(_, similarity)| *similarity >= floor);
        keep_nearest(&mut found, k);
        found.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
        found
    }

    /// Builds a new generation if the present one is stale; true if it did. Takes seconds from 10^4 rows on: for a
    /// thread of its own. Searches and inserts go on meanwhile; one rebuild at a time is the caller's concern.
    pub fn rebuild_if_stale(&self) -> bool {
        let snapshot: Vec<Row> = {
            let rows = self.rows.read();
            if !rows.is_stale(&self.config) {
                return false;
            }
            rows.rows.iter().filter(|row| row.alive).cloned().collect()
        };
        let graph = (snapshot.len() >= self.config.graph_from)
            .then(|| Arc::new(Graph::build(snapshot.iter().map(|row| &row.vector), &self.config)));
        self.swap(snapshot, graph);
        true
    }

    /// Puts a generation in place, with what changed while it was built.
    fn swap(&self, mut next: Vec<Row>, graph: Option<Arc<Graph>>) {
        let mut rows = self.rows.write();
        let mut by_id: HashMap<ExampleId, usize> = HashMap::with_capacity(rows.by_id.len());
        for (position, row) in next.iter_mut().enumerate() {
            // Removed meanwhile, or its vector was replaced: the row behind the snapshot counts.
            let same = rows.by_id.get(&row.id).is_some_and(|now| rows.rows[*now].vector.is(&row.vector));
            row.alive = same;
            if same {
                by_id.insert(row.id, position);
            }
        }
        for row in rows.rows.iter().filter(|row| row.alive) {
            by_id.entry(row.id).or_insert_with(|| {
                next.push(row.clone());
                next.len() - 1
            });
        }
        *rows = Rows { rows: next, by_id, graph };
    }
}

fn keep_nearest(found: &mut Vec<(ExampleId, f32)>, k: usize) {
    if found.len() > k {
        found.select_nth_unstable_by(k - 1, |a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
        found.truncate(k);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;
    use rand::{Rng, SeedableRng, rngs::SmallRng};

    use super::*;

    /// Clustered, as texts are.
    fn vectors(count: usize, dimensions: usize, seed: u64) -> Vec<UnitVector> {
        let mut rng = SmallRng::seed_from_u64(seed);
        let centres: Vec<Vec<f32>> =
            (0..20).map(|_| (0..dimensions).map(|_| rng.random_range(-1.0..1.0)).collect()).collect();
        (0..count)
            .map(|_| {
                let centre = &centres[rng.random_range(0..centres.len())];
                let noisy = centre.iter().map(|c| c + rng.random_range(-0.6..0.6_f32)).collect();
                UnitVector::try_new(noisy).unwrap()
            })
            .collect()
    }

    fn exact(rows: &[(ExampleId, UnitVector)], query: &UnitVector, k: usize) -> Vec<ExampleId> {
        let mut all: Vec<_> = rows.iter().map(|(id, vector)| (*id, vector.dot(query))).collect();
        all.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
        all.truncate(k);
        all.into_iter().map(|(id, _)| id).collect()
    }

    #[test]
    fn the_graph_recalls_98_of_100_of_the_ten_nearest() {
        let config = IndexConfig { graph_from: 1000, ..IndexConfig::default() };
        let index = Index::new(config);
        let rows: Vec<_> =
            vectors(3000, 64, 1).into_iter().map(|vector| (ExampleId::generate(), vector)).collect();
        rows.iter().for_each(|(id, vector)| index.insert(*id, vector.clone(), Instructions::NONE));
        assert!(index.rebuild_if_stale() && index.has_graph());
        let queries = vectors(100, 64, 2);
        let hits: usize = queries
            .iter()
            .map(|query| {
                let expected: HashSet<_> = exact(&rows, query, 10).into_iter().collect();
                index
                    .nearest(query, 10, -1.0, Instructions::NONE)
                    .iter()
                    .filter(|(id, _)| expected.contains(id))
                    .count()
            })
            .sum();
        assert!(hits >= 980, "recall@10 is {}", hits as f64 / 1000.0);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]
        /// With inserts, replacements, removals and rebuilds in any order, what is found is what a plain scan finds.
        #[test]
        fn agrees_with_a_plain_scan(steps in prop::collection::vec(0_u8..10, 1..150), seed: u64) {
            // The graph comes in at 40 rows; ef covers them all, so that it is exact too.
            let index = Index::new(IndexConfig { graph_from: 40, ef_search: 400, ..IndexConfig::default() });
            let pool = vectors(steps.len(), 8, seed);
            let mut rows: Vec<(ExampleId, UnitVector)> = Vec::new();
            let mut rng = SmallRng::seed_from_u64(seed);
            for (step, vector) in steps.iter().zip(&pool) {
                match step {
                    0 | 1 if !rows.is_empty() => {
                        let (id, _) = rows.swap_remove(rng.random_range(0..rows.len()));
                        prop_assert!(index.remove(id));
                        prop_assert!(!index.remove(id));
                    }
                    2 => { index.rebuild_if_stale(); }
                    3 if !rows.is_empty() => {
                        let at = rng.random_range(0..rows.len());
                        rows[at].1 = vector.clone();
                        index.insert(rows[at].0, vector.clone(), Instructions::NONE);
                    }
                    _ => {
                        let id = ExampleId::generate();
                        rows.push((id, vector.clone()));
                        index.insert(id, vector.clone(), Instructions::NONE);
                    }
                }
            }
            prop_assert_eq!(index.len(), rows.len());
            for query in pool.iter().take(5) {
                let found: Vec<_> = index.nearest(query, 5, -1.0, Instructions::NONE).into_iter().map(|(id, _)| id).collect();
                prop_assert_eq!(found, exact(&rows, query, 5));
            }
        }
    }

    #[test]
    fn identical_vectors_are_one_point_and_all_found() {
        let index = Index::new(IndexConfig { graph_from: 100, ..IndexConfig::default() });
        let pool = vectors(300, 32, 5);
        // Half of the rows share three vectors.
        let rows: Vec<_> = (0..600)
            .map(|i| (ExampleId::generate(), pool[if i % 2 == 0 { i % 3 } else { i / 2 }].clone()))
            .collect();
        rows.iter().for_each(|(id, vector)| index.insert(*id, vector.clone(), Instructions::NONE));
        assert!(index.rebuild_if_stale());
        let points = index.rows.read().graph.as_ref().map(|graph| graph.points());
        assert_eq!(points, Some(300));
        let lost = pool
            .iter()
            .filter(|vector| index.nearest(vector, 1, -1.0, Instructions::NONE)[0].1 < 0.9999)
            .count();
        assert_eq!(lost, 0);
        let of_first = index.nearest(&pool[0], 500, 0.99999, Instructions::NONE).len();
        assert_eq!(of_first, rows.iter().filter(|(_, vector)| *vector == pool[0]).count());
    }

    #[test]
    fn where_all_around_died_the_living_farther_off_are_found() {
        let index = Index::new(IndexConfig { graph_from: 500, stale_share: 0.9, ..IndexConfig::default() });
        let rows: Vec<_> =
            vectors(2000, 32, 4).into_iter().map(|vector| (ExampleId::generate(), vector)).collect();
        rows.iter().for_each(|(id, vector)| index.insert(*id, vector.clone(), Instructions::NONE));
        assert!(index.rebuild_if_stale());
        let query = &rows[0].1;
        let nearest = exact(&rows, query, 600);
        nearest.iter().for_each(|id| assert!(index.remove(*id)));
        assert!(!index.rebuild_if_stale());
        let left: Vec<_> = rows.iter().filter(|(id, _)| !nearest.contains(id)).cloned().collect();
        let expected: HashSet<_> = exact(&left, query, 10).into_iter().collect();
        let hits = index
            .nearest(query, 10, -1.0, Instructions::NONE)
            .iter()
            .filter(|(id, _)| expected.contains(id))
            .count();
        assert!(hits >= 9, "{hits} of 10");
    }

    #[test]
    fn searches_go_on_while_a_generation_is_built() {
        let index = Index::new(IndexConfig { graph_from: 500, ..IndexConfig::default() });
        let pool = vectors(2000, 32, 3);
        let ids: Vec<_> = pool.iter().map(|_| ExampleId::generate()).collect();
        pool.iter()
            .zip(&ids)
            .take(1500)
            .for_each(|(vector, id)| index.insert(*id, vector.clone(), Instructions::NONE));
        std::thread::scope(|scope| {
            scope.spawn(|| while !index.rebuild_if_stale() {});
            for (vector, id) in pool.iter().zip(&ids).skip(1500) {
                index.insert(*id, vector.clone(), Instructions::NONE);
                let (nearest, similarity) = index.nearest(vector, 1, -1.0, Instructions::NONE)[0];
                assert!(nearest == *id && similarity > 0.999);
            }
        });
        assert_eq!(index.len(), 2000);
        // Every row is still found, whether the generation holds it or not.
        let lost = pool
            .iter()
            .zip(&ids)
            .filter(|(vector, id)| index.nearest(vector, 1, -1.0, Instructions::NONE)[0].0 != **id)
            .count();
        assert!(lost <= 10, "{lost} of 2000 rows are not found");
    }
}
