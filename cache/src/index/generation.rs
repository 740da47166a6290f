//! One generation of the index: vectors in lists by cluster, each list under a lock of its own.
//!
//! An inverted file (Jégou, Douze, Schmid 2011, "Product Quantization for Nearest Neighbor Search", without the product):
//! a search scans the codes of the lists whose centres are nearest to the query, and computes the exact similarity of the
//! best. How many lists that takes is measured when the generation is built, on its own vectors. A query that is unlike all
//! of them (what it finds there is less alike than what any of them found) is not covered by that measure: it scans every
//! list, unless what it found lies clearly under the floor, where nothing is returned anyway. Without centres there is one
//! list, scanned exactly.
//!
//! A new vector goes to the end of its list and is found at once; a deleted one leaves it. So a generation does not go
//! stale by change alone, only by growth or drift.

use parking_lot::RwLock;

use super::clusters::Centres;
use super::codes::{Code, about};
use crate::{ExampleId, Instructions, UnitVector};

#[derive(Debug)]
pub struct Generation {
    /// `None`: one list.
    centres: Option<Centres>,
    lists: Vec<RwLock<List>>,
    /// Lists that a search scans.
    breadth: usize,
    /// Similarity of the tenth nearest under which a query is unlike all that was held.
    familiar: f32,
    /// Vectors when it was built.
    pub built_of: usize,
}

/// Held for the microseconds of one list's scan or change.
#[derive(Debug, Default)]
struct List {
    rows: Vec<Row>,
    /// Of all rows, one after the other; empty in a generation without centres.
    codes: Vec<i8>,
    scales: Vec<f32>,
}

#[derive(Debug, Clone)]
struct Row {
    id: ExampleId,
    vector: UnitVector,
    under: Instructions,
}

/// Vectors whose neighbours are looked up to measure it.
const PROBES: usize = 200;
const NEIGHBOURS: usize = 10;
/// So far under the floor the best find must be for a wider search to be given up: that much nearer an unseen vector is
/// hardly ever.
const CLEARLY: f32 = 0.1;
/// Candidates by code whose exact similarity is computed, for each that is wanted, and at least.
const RERANKED: usize = 3;
const RERANKED_LEAST: usize = 64;

impl Generation {
    /// One list, scanned exactly.
    pub fn flat() -> Self {
        Self { centres: None, lists: vec![RwLock::default()], breadth: 1, familiar: -1.0, built_of: 0 }
    }

    /// Clusters the vectors and measures the breadth. Takes seconds from 10^5 on.
    pub fn clustered(rows: Vec<(ExampleId, UnitVector, Instructions)>, lists: usize, recall: f64) -> Self {
        let vectors: Vec<UnitVector> = rows.iter().map(|(_, vector, _)| vector.clone()).collect();
        let centres = Centres::of(&vectors, lists);
        let built_of = rows.len();
        let mut generation = Self {
            lists: (0..centres.len()).map(|_| RwLock::default()).collect(),
            breadth: centres.len(),
            familiar: -1.0,
            centres: Some(centres),
            built_of,
        };
        for (id, vector, under) in rows {
            generation.insert(id, vector, under);
        }
        generation.measure(&vectors, recall);
        generation
    }

    pub fn is_clustered(&self) -> bool {
        self.centres.is_some()
    }

    /// Lists that a search scans, of how many.
    pub fn breadth(&self) -> (usize, usize) {
        (self.breadth, self.lists.len())
    }

    pub fn insert(&self, id: ExampleId, vector: UnitVector, under: Instructions) {
        let mut code = Code::of(vector.as_slice());
        let index = self.centres.as_ref().map_or(0, |centres| centres.nearest(&code));
        let Some(list) = self.lists.get(index) else { return };
        let mut list = list.write();
        if self.centres.is_some() {
            list.codes.append(&mut std::mem::take(&mut code.values).into_vec());
            list.scales.push(code.scale);
        }
        list.rows.push(Row { id, vector, under });
    }

    /// `vector` says in which list it is; false if it is not there.
    pub fn remove(&self, id: ExampleId, vector: &UnitVector) -> bool {
        let index = self.centres.as_ref().map_or(0, |centres| centres.nearest(&Code::of(vector.as_slice())));
        let Some(list) = self.lists.get(index) else { return false };
        let mut list = list.write();
        let Some(at) = list.rows.iter().position(|row| row.id == id) else { return false };
        list.rows.swap_remove(at);
        if self.centres.is_some() {
            list.scales.swap_remove(at);
            let dimensions = vector.dimensions();
            let last = list.codes.len().saturating_sub(dimensions);
            list.codes.copy_within(last.., at * dimensions);
            list.codes.truncate(last);
        }
        true
    }

    /// The `k` nearest under these instructions, in no order, with their exact similarity.
    pub fn nearest(
        &self,
        query: &UnitVector,
        k: usize,
        floor: f32,
        under: Instructions,
    ) -> Vec<(ExampleId, f32)> {
        match &self.centres {
            None => self.scan(query, k, under),
            Some(centres) => self.probe(centres, query, k, floor, under),
        }
    }

    fn scan(&self, query: &UnitVector, k: usize, under: Instructions) -> Vec<(ExampleId, f32)> {
        let mut best = Best::new(k);
        for list in &self.lists {
            for row in list.read().rows.iter().filter(|row| row.under == under) {
                best.offer(row.vector.dot(query), || row.id);
            }
        }
        best.into_vec()
    }

    /// Goes on over the measured breadth until as many vectors were seen as it held when it was measured: near lists may hold
    /// none of these instructions, or may have been emptied.
    fn probe(
        &self,
        centres: &Centres,
        query: &UnitVector,
        k: usize,
        floor: f32,
        under: Instructions,
    ) -> Vec<(ExampleId, f32)> {
        let code = Code::of(query.as_slice());
        let dimensions = query.dimensions().max(1);
        let mut best = Best::new((RERANKED * k).max(RERANKED_LEAST));
        let usual = (self.built_of * self.breadth / self.lists.len().max(1)).max(k);
        let (mut all, mut seen) = (false, 0);
        for (probed, index) in centres.in_order(&code).into_iter().enumerate() {
            if !all && probed >= self.breadth && seen >= usual {
                if best.similarity_at(NEIGHBOURS) >= self.familiar || best.similarity_at(1) < floor - CLEARLY
                {
                    break;
                }
                all = true;
            }
            let Some(list) = self.lists.get(index) else { continue };
            let list = list.read();
            let coded = list.codes.chunks_exact(dimensions).zip(&list.scales).zip(&list.rows);
            for ((values, scale), row) in coded.filter(|(_, row)| row.under == under) {
                seen += 1;
                let similarity = about((*scale, values), (code.scale, &code.values));
                best.offer(similarity, || (row.id, row.vector.clone()));
            }
        }
        let exact = |((id, vector), _): ((ExampleId, UnitVector), f32)| (id, vector.dot(query));
        let mut exactly = Best::new(k);
        for (id, similarity) in best.into_vec().into_iter().map(exact) {
            exactly.offer(similarity, || id);
        }
        exactly.into_vec()
    }

    fn measure(&mut self, vectors: &[UnitVector], recall: f64) {
        let step = vectors.len().div_ceil(PROBES).max(1);
        let own: Vec<&UnitVector> = vectors.iter().step_by(step).collect();
        (self.breadth, self.familiar) = self.breadth_for(&own, recall);
    }

    /// The least number of lists in which this share of the vectors' ten nearest others lie, and the least similarity of a
    /// tenth.
    fn breadth_for(&self, vectors: &[&UnitVector], recall: f64) -> (usize, f32) {
        let Some(centres) = &self.centres else { return (1, -1.0) };
        let mut found_at = vec![0_usize; self.lists.len()];
        let (mut neighbours, mut familiar) = (0, 1.0_f32);
        for vector in vectors {
            let code = Code::of(vector.as_slice());
            // The first is the vector itself.
            let mut best = Best::new(NEIGHBOURS + 1);
            for (probed, index) in centres.in_order(&code).into_iter().enumerate() {
                let list = self.lists[index].read();
                for (values, scale) in list.codes.chunks_exact(vector.dimensions()).zip(&list.scales) {
                    best.offer(about((*scale, values), (code.scale, &code.values)), || probed);
                }
            }
            let mut nearest = best.into_vec();
            nearest.sort_by(|a, b| b.1.total_cmp(&a.1));
            nearest.truncate(NEIGHBOURS + 1);
            familiar = nearest.last().map_or(familiar, |last| familiar.min(last.1));
            for (probed, _) in nearest.into_iter().skip(1) {
                found_at[probed] += 1;
                neighbours += 1;
            }
        }
        let wanted = (recall * neighbours as f64).ceil() as usize;
        let mut found = 0;
        for (probed, count) in found_at.iter().enumerate() {
            found += count;
            if found >= wanted && neighbours > 0 {
                return (probed + 1, familiar);
            }
        }
        (self.lists.len(), familiar)
    }
}

/// The best of what was offered. Keeps a few times as many, so that it sorts seldom.
struct Best<T> {
    k: usize,
    kept: Vec<(T, f32)>,
    /// What is not above it is not among the best.
    floor: f32,
}

impl<T> Best<T> {
    fn new(k: usize) -> Self {
        Self { k, kept: Vec::with_capacity(4 * k + 64), floor: f32::NEG_INFINITY }
    }

    fn offer(&mut self, similarity: f32, item: impl FnOnce() -> T) {
        if similarity < self.floor {
            return;
        }
        self.kept.push((item(), similarity));
        if self.kept.len() >= 4 * self.k + 64 {
            self.cut();
        }
    }

    /// Of the `n`th best so far; the least there is if there are fewer.
    fn similarity_at(&self, n: usize) -> f32 {
        let mut all: Vec<f32> = self.kept.iter().map(|(_, similarity)| *similarity).collect();
        if all.len() < n || n == 0 {
            return f32::NEG_INFINITY;
        }
        *all.select_nth_unstable_by(n - 1, |a, b| b.total_cmp(a)).1
    }

    fn cut(&mut self) {
        if self.kept.len() > self.k && self.k > 0 {
            self.kept.select_nth_unstable_by(self.k - 1, |a, b| b.1.total_cmp(&a.1));
            self.floor = self.kept[self.k - 1].1;
            // Equal ones stay: which of them counts is decided by id, by whoever sorts.
            let floor = self.floor;
            let ties = self.kept.split_off(self.k).into_iter().filter(|(_, s)| *s >= floor).take(self.k);
            let ties: Vec<_> = ties.collect();
            self.kept.extend(ties);
        }
    }

    /// A little more than `k` where some are equal.
    fn into_vec(mut self) -> Vec<(T, f32)> {
        self.cut();
        self.kept
    }
}
