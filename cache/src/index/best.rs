use std::{
    cmp::{Ordering, Reverse},
    collections::BinaryHeap,
};

/// The `k` most similar of all that were offered, none below a floor. Of equals the lesser key stays: the older example.
#[derive(Debug)]
pub struct Best<K> {
    k: usize,
    floor: f32,
    /// The least of those kept on top.
    kept: BinaryHeap<Reverse<Found<K>>>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
struct Found<K> {
    similarity: f32,
    key: K,
}

impl<K: Ord> Eq for Found<K> {}

impl<K: Ord> Ord for Found<K> {
    fn cmp(&self, other: &Self) -> Ordering {
        self.similarity.total_cmp(&other.similarity).then(other.key.cmp(&self.key))
    }
}

impl<K: Ord> PartialOrd for Found<K> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<K: Ord> Best<K> {
    pub fn new(k: usize, floor: f32) -> Self {
        Self { k, floor, kept: BinaryHeap::with_capacity(k.saturating_add(1).min(1024)) }
    }

    /// What is below has no chance.
    pub fn threshold(&self) -> f32 {
        match self.kept.peek() {
            Some(Reverse(least)) if self.kept.len() >= self.k => least.similarity,
            _ => self.floor,
        }
    }

    pub fn offer(&mut self, key: K, similarity: f32) {
        if self.k == 0 || similarity < self.floor {
            return;
        }
        self.kept.push(Reverse(Found { similarity, key }));
        if self.kept.len() > self.k {
            self.kept.pop();
        }
    }

    /// The most similar first.
    pub fn into_sorted(self) -> Vec<(K, f32)> {
        self.kept.into_sorted_vec().into_iter().map(|Reverse(found)| (found.key, found.similarity)).collect()
    }
}
