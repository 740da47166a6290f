//! Nearest vectors of one partition: scanned exactly where that is fast enough, in clusters above.
//!
//! Derived state: never stored, always rebuilt from the store. A *generation* ([`generation`]) takes inserts and removals
//! as they come. A new one is built beside it on the caller's maintenance thread when the partition has outgrown the old
//! one; changes made meanwhile are noted and made in the new one too, and it is put in place by pointer. A search holds the
//! lock of one list at a time and never waits for a build.

mod clusters;
mod codes;
mod generation;

use std::{collections::HashMap, sync::Arc};

use parking_lot::{Mutex, RwLock};

use crate::{ExampleId, Instructions, UnitVector};
use generation::Generation;

/// When clusters are used.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct IndexConfig {
    /// Vectors from which they are built. `cache/bench` holds the run that found the crossing.
    pub clusters_from: usize,
    /// A new generation is built when there are so many times as many vectors as the last one was built of, or so many
    /// times fewer.
    pub outgrown: f32,
    /// Clusters for each square root of the number of vectors.
    pub clusters: f32,
    /// Share of the ten nearest that a search must find, measured at each build; over 1 all clusters are searched. The
    /// default is over DESIGN's 0.98, since new queries are not the vectors that it is measured on.
    pub recall: f64,
}

impl Default for IndexConfig {
    fn default() -> Self {
        Self { clusters_from: 8_000, outgrown: 2.0, clusters: 2.0, recall: 0.99 }
    }
}

/// Vectors by id.
#[derive(Debug)]
pub struct Index {
    config: IndexConfig,
    /// Replaced as a whole by a rebuild; held by searches for as long as a pointer is cloned.
    generation: RwLock<Arc<Generation>>,
    /// Writers and rebuilds, never searches.
    writer: Mutex<Writer>,
}

#[derive(Debug, Default)]
struct Writer {
    held: HashMap<ExampleId, (UnitVector, Instructions)>,
    /// What changed since a rebuild began, while one is under way.
    changes: Option<Vec<Change>>,
}

#[derive(Debug)]
enum Change {
    Insert(ExampleId, UnitVector, Instructions),
    Remove(ExampleId, UnitVector),
}

/// How the index searches now, for reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub struct IndexShape {
    pub vectors: usize,
    /// 0: scanned exactly.
    pub clusters: usize,
    /// Clusters that a search scans, unless the query is unlike all that is held.
    pub searched: usize,
}

impl Default for Index {
    fn default() -> Self {
        Self::new(IndexConfig::default())
    }
}

impl Index {
    #[must_use]
    pub fn new(config: IndexConfig) -> Self {
        Self { config, generation: RwLock::new(Arc::new(Generation::flat())), writer: Mutex::default() }
    }

    #[must_use]
    pub fn len(&self) -> usize {
        self.writer.lock().held.len()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    #[must_use]
    pub fn shape(&self) -> IndexShape {
        let generation = self.current();
        let (searched, clusters) = if generation.is_clustered() { generation.breadth() } else { (0, 0) };
        IndexShape { vectors: self.len(), clusters, searched }
    }

    /// Adds a vector, or puts another in its place.
    pub fn insert(&self, id: ExampleId, vector: UnitVector, under: Instructions) {
        let mut writer = self.writer.lock();
        let generation = self.current();
        // The new one first: a search in between finds the example twice rather than not at all.
        generation.insert(id, vector.clone(), under);
        if let Some((old, _)) = writer.held.insert(id, (vector.clone(), under)) {
            generation.remove(id, &old);
            writer.note(|| Change::Remove(id, old));
        }
        writer.note(|| Change::Insert(id, vector, under));
    }

    pub fn remove(&self, id: ExampleId) -> bool {
        let mut writer = self.writer.lock();
        let Some((vector, _)) = writer.held.remove(&id) else { return false };
        self.current().remove(id, &vector);
        writer.note(|| Change::Remove(id, vector));
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
        let mut found = self.current().nearest(query, k, floor, under);
        found.retain(|(_, similarity)| *similarity >= floor);
        found.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
        found.dedup_by_key(|(id, _)| *id);
        found.truncate(k);
        found
    }

    /// Builds a new generation if the partition has outgrown the present one; true if it did. Takes seconds from 10^5
    /// vectors on: for a thread of its own. Searches and changes go on meanwhile.
    pub fn rebuild_if_stale(&self) -> bool {
        let snapshot: Vec<(ExampleId, UnitVector, Instructions)> = {
            let mut writer = self.writer.lock();
            if writer.changes.is_some() || !self.is_stale(writer.held.len()) {
                return false;
            }
            writer.changes = Some(Vec::new());
            writer.held.iter().map(|(id, (vector, under))| (*id, vector.clone(), *under)).collect()
        };
        let next = self.built(snapshot);
        let mut writer = self.writer.lock();
        for change in writer.changes.take().unwrap_or_default() {
            match change {
                Change::Insert(id, vector, under) => next.insert(id, vector, under),
                Change::Remove(id, vector) => {
                    next.remove(id, &vector);
                }
            }
        }
        *self.generation.write() = Arc::new(next);
        true
    }

    /// All vectors, in no order.
    pub(crate) fn snapshot(&self) -> Vec<(ExampleId, UnitVector, Instructions)> {
        let held = &self.writer.lock().held;
        held.iter().map(|(id, (vector, under))| (*id, vector.clone(), *under)).collect()
    }

    fn built(&self, mut rows: Vec<(ExampleId, UnitVector, Instructions)>) -> Generation {
        // By age, so that equal contents make equal clusters.
        rows.sort_by_key(|(id, _, _)| *id);
        if rows.len() >= self.config.clusters_from {
            let clusters = (self.config.clusters * (rows.len() as f32).sqrt()) as usize;
            return Generation::clustered(rows, clusters.max(1), self.config.recall);
        }
        let flat = Generation::flat();
        rows.into_iter().for_each(|(id, vector, under)| flat.insert(id, vector, under));
        flat
    }

    fn is_stale(&self, vectors: usize) -> bool {
        let generation = self.current();
        let wanted = vectors >= self.config.clusters_from;
        if !generation.is_clustered() {
            return wanted;
        }
        let growth = vectors as f32 / generation.built_of.max(1) as f32;
        !wanted || growth >= self.config.outgrown || growth * self.config.outgrown <= 1.0
    }

    fn current(&self) -> Arc<Generation> {
        Arc::clone(&self.generation.read())
    }
}

impl Writer {
    fn note(&mut self, change: impl FnOnce() -> Change) {
        if let Some(changes) = &mut self.changes {
            changes.push(change());
        }
    }
}

#[cfg(test)]
mod tests;
