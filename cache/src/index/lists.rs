use std::{collections::HashSet, sync::Arc};

use parking_lot::RwLock;

use super::{Entry, IndexConfig, List, best::Best, centres::Centres, code::Query};
use crate::{ExampleId, UnitVector};

/// Entries of a list without a centre: how long a writer may wait for a search that reads it.
const CHUNK: usize = 1024;

/// One generation of an index: inverted lists (Jégou, Douze and Schmid 2011) of which a search reads those with the nearest centres, or, of
/// few entries, lists without centres, all of which it reads.
///
/// Entries come and go in place: only the centres are fixed. One writer at a time; searches hold it up for one list at most.
#[derive(Debug)]
pub struct Lists {
    centres: Option<Centres>,
    /// With centres one for each.
    lists: RwLock<Vec<Arc<RwLock<List>>>>,
    /// Entries that the centres were made for.
    made_for: usize,
    probes: usize,
}

impl Lists {
    /// Takes about 0.1 ms an entry, from `ivf_from` entries on.
    pub fn build(entries: Vec<Entry>, config: &IndexConfig) -> Self {
        let made_for = entries.len();
        let centres = (made_for >= config.ivf_from && made_for > 0).then(|| {
            let vectors: Vec<&UnitVector> = entries.iter().map(|entry| &entry.vector).collect();
            let count = (config.lists_per_root * (made_for as f32).sqrt()).ceil() as usize;
            Centres::train(&vectors, count.max(1), config)
        });
        let count = centres.as_ref().map_or(0, Centres::len);
        let lists = RwLock::new((0..count).map(|_| Arc::default()).collect());
        let probes = config.probes.max(count / config.probe_one_in.max(1)).max(1);
        let built = Self { centres, lists, made_for, probes };
        entries.into_iter().for_each(|entry| built.push(entry));
        built
    }

    #[cfg(test)]
    pub fn has_centres(&self) -> bool {
        self.centres.is_some()
    }

    pub fn push(&self, entry: Entry) {
        let list = match &self.centres {
            Some(centres) => self.list(centres.nearest(&entry.vector)),
            None => Some(self.open_chunk()),
        };
        if let Some(list) = list {
            list.write().push(entry);
        }
    }

    /// Of an entry that was pushed with this vector; false if there is none of this id.
    pub fn remove(&self, id: ExampleId, vector: &UnitVector) -> bool {
        match &self.centres {
            // The graph is not changed any more, and so leads to where it led before.
            Some(centres) => self.list(centres.nearest(vector)).is_some_and(|list| list.write().remove(id)),
            None => self.all().iter().any(|list| list.write().remove(id)),
        }
    }

    /// The `k` nearest with their exact similarity, nearest first; none below `floor`. Lists are read until as many entries
    /// were seen, whatever their similarity: where many were removed, more than `probes`.
    pub fn nearest(&self, vector: &UnitVector, k: usize, floor: f32) -> Vec<(ExampleId, f32)> {
        let (query, mut best, mut room) = (Query::new(vector), Best::new(k, floor), Vec::new());
        let (mut read, mut seen, mut wanted) = (HashSet::new(), 0, self.probes);
        loop {
            let count = self.lists.read().len();
            let some = self.centres.as_ref().filter(|_| wanted < count);
            let near =
                some.map_or_else(|| (0..count).collect(), |centres| centres.nearest_some(vector, wanted));
            for at in near {
                if let Some(list) = self.list(at).filter(|_| read.insert(at)) {
                    let list = list.read();
                    list.search(&query, &mut best, &mut room);
                    seen += list.len();
                }
            }
            if some.is_none() || seen >= k {
                return best.into_sorted();
            }
            wanted = wanted.saturating_mul(4);
        }
    }

    /// All entries; those that come or go meanwhile may be among them or not.
    pub fn entries(&self) -> Vec<Entry> {
        self.all().iter().flat_map(|list| list.read().entries().to_vec()).collect()
    }

    /// Whether so many entries want other lists than these.
    pub fn is_stale(&self, entries: usize, config: &IndexConfig) -> bool {
        match &self.centres {
            // As far below as above, so that a number at the border does not build all the time.
            Some(_) => {
                entries < config.ivf_from / 2
                    || entries > self.made_for.saturating_mul(config.growth)
                    || entries < self.made_for / config.growth.max(1) / 2
            }
            None => {
                let chunks = self.lists.read().len();
                entries >= config.ivf_from || chunks > 4 * (entries / CHUNK + 1)
            }
        }
    }

    fn list(&self, at: usize) -> Option<Arc<RwLock<List>>> {
        self.lists.read().get(at).cloned()
    }

    fn all(&self) -> Vec<Arc<RwLock<List>>> {
        self.lists.read().clone()
    }

    fn open_chunk(&self) -> Arc<RwLock<List>> {
        let last = self.lists.read().last().cloned();
        last.filter(|list| list.read().len() < CHUNK).unwrap_or_else(|| {
            let list = Arc::<RwLock<List>>::default();
            self.lists.write().push(Arc::clone(&list));
            list
        })
    }
}
