use super::{
    best::Best,
    code::{Codes, Query},
};
use crate::UnitVector;

/// A vector and whose it is.
#[derive(Debug, Clone)]
pub struct Entry<K> {
    pub id: K,
    pub vector: UnitVector,
}

/// Entries that are searched together.
#[derive(Debug)]
pub struct List<K> {
    entries: Vec<Entry<K>>,
    codes: Codes,
}

impl<K> Default for List<K> {
    fn default() -> Self {
        Self { entries: Vec::new(), codes: Codes::default() }
    }
}

impl<K: Copy + Ord> List<K> {
    pub fn bytes_per_vector(dimensions: usize) -> usize {
        size_of::<Entry<K>>() + Codes::bytes_per_vector(dimensions)
    }

    pub fn len(&self) -> usize {
        self.entries.len()
    }

    pub fn entries(&self) -> &[Entry<K>] {
        &self.entries
    }

    pub fn push(&mut self, entry: Entry<K>) {
        self.codes.push(&entry.vector);
        self.entries.push(entry);
    }

    pub fn remove(&mut self, id: K) -> bool {
        let Some(at) = self.entries.iter().position(|entry| entry.id == id) else { return false };
        self.entries.swap_remove(at);
        self.codes.swap_remove(at);
        true
    }

    /// Offers all entries that may be among the best, with their exact similarity: those that the bound of their codes rules
    /// out are not looked at, so that of the list nothing is missed.
    pub fn search(&self, query: &Query, best: &mut Best<K>, room: &mut Vec<i32>) {
        if self.entries.is_empty() {
            return;
        }
        for (entry, at_most) in self.entries.iter().zip(self.codes.at_most(query, room)) {
            if at_most >= best.threshold() {
                best.offer(entry.id, entry.vector.dot(&query.vector));
            }
        }
    }
}
