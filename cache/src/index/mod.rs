//! Nearest vectors of one partition: exact where that is fast enough, inverted lists above.
//!
//! Derived state: never stored, always rebuilt from the store. Vectors under the same instructions are a group, and a search
//! reads its own group alone. A group's lists change in place; their centres are of a *generation*, which is built on the
//! caller's maintenance thread beside searches and swapped in by pointer.
//!
//! A list is read through codes of 8 bits, with a bound that lets nothing be missed of it: what the lists approximate is
//! only which of them are read. The centres are read in the same way, and from `graph_from` of them on through a graph of
//! hnsw_rs. All vectors in such a graph would take 2 ms each to insert, have no deletion and keep a second copy
//! (`bench/runs/` has both measured).

mod best;
mod centres;
mod code;
mod group;
mod list;
mod lists;

use std::{collections::HashMap, sync::Arc};

use parking_lot::RwLock;

use crate::{ExampleId, Instructions, UnitVector};
use group::Group;

/// Whose a vector is.
type Entry = list::Entry<ExampleId>;
type List = list::List<ExampleId>;

/// When inverted lists are used, and how.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct IndexConfig {
    /// Vectors of a group from which a search reads some of them only. `cache/bench` holds the run that found the crossing.
    pub ivf_from: usize,
    /// Lists of a group of n vectors, over the square root of n: a search's time is that for centres and that for lists.
    pub lists_per_root: f32,
    /// Lists that a search reads, at least: recall for time.
    pub probes: usize,
    /// Of many lists a search reads this part: one in so many.
    pub probe_one_in: usize,
    /// A new generation is built when a group has this many times the vectors it was built for, or, of half as many, this part.
    pub growth: usize,
    /// Centres from which their graph is searched instead of all of them. `cache/bench` holds the run that found the crossing.
    pub graph_from: usize,
    /// Breadth of the search for the nearest centres.
    pub ef_search: usize,
    /// Neighbours that a centre keeps in a layer of the graph (M); twice as many in the lowest.
    pub connections: usize,
    /// Breadth of the search for a new centre's neighbours.
    pub ef_construction: usize,
}

impl Default for IndexConfig {
    fn default() -> Self {
        Self {
            ivf_from: 14_000,
            lists_per_root: 4.0,
            probes: 64,
            probe_one_in: 32,
            growth: 2,
            graph_from: 16_384,
            ef_search: 64,
            connections: 16,
            ef_construction: 100,
        }
    }
}

/// Vectors by id, each under its instructions.
#[derive(Debug, Default)]
pub struct Index {
    config: IndexConfig,
    /// By instructions and dimensions. Changed only when a group comes or goes.
    groups: RwLock<HashMap<(Instructions, usize), Arc<Group>>>,
}

impl Index {
    #[must_use]
    pub fn new(config: IndexConfig) -> Self {
        Self { config, groups: RwLock::default() }
    }

    #[must_use]
    pub fn len(&self) -> usize {
        self.groups.read().values().map(|group| group.len()).sum()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Adds a vector. One that is there under the same id has to be removed before.
    pub fn insert(&self, id: ExampleId, vector: UnitVector, under: Instructions) {
        let place = (under, vector.dimensions());
        let entry = Entry { id, vector };
        // While the map is held no group goes.
        if let Some(group) = self.groups.read().get(&place) {
            return group.insert(entry);
        }
        let mut groups = self.groups.write();
        groups.entry(place).or_insert_with(|| Arc::new(Group::new(self.config))).insert(entry);
    }

    /// What was inserted with this vector under these instructions; false if there is none.
    pub fn remove(&self, id: ExampleId, vector: &UnitVector, under: Instructions) -> bool {
        let place = (under, vector.dimensions());
        let Some(group) = self.group(&place) else { return false };
        let removed = group.remove(id, vector);
        if group.len() == 0 {
            let mut groups = self.groups.write();
            if groups.get(&place).is_some_and(|group| group.len() == 0) {
                groups.remove(&place);
            }
        }
        removed
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
        let group = self.group(&(under, query.dimensions()));
        group.map_or_else(Vec::new, |group| group.nearest(query, k, floor))
    }

    /// Builds a new generation of the groups whose present one is stale; true if there was one. Takes about 0.1 ms a vector
    /// of a large group: for a thread of its own. Searches and changes go on meanwhile.
    pub fn rebuild_if_stale(&self) -> bool {
        let groups: Vec<Arc<Group>> = self.groups.read().values().cloned().collect();
        groups.iter().filter(|group| group.rebuild_if_stale()).count() > 0
    }

    /// Memory for a vector: its numbers, which example and index share, and codes and entry of the index.
    #[must_use]
    pub fn bytes_per_vector(dimensions: usize) -> usize {
        dimensions * size_of::<f32>() + List::bytes_per_vector(dimensions)
    }

    fn group(&self, place: &(Instructions, usize)) -> Option<Arc<Group>> {
        self.groups.read().get(place).cloned()
    }

    #[cfg(test)]
    fn has_centres(&self) -> bool {
        self.groups.read().values().any(|group| group.has_centres())
    }
}

#[cfg(test)]
mod tests;
