use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use parking_lot::{Mutex, RwLock};

use super::{Entry, IndexConfig, lists::Lists};
use crate::{ExampleId, UnitVector};

/// Vectors that are searched together: a generation of lists, and how the next one takes its place.
#[derive(Debug)]
pub struct Group {
    config: IndexConfig,
    /// Replaced as a whole; a search keeps the one that it began with.
    lists: RwLock<Arc<Lists>>,
    entries: AtomicUsize,
    writer: Mutex<Writer>,
}

#[derive(Debug, Default)]
struct Writer {
    /// What changed since the next generation was begun, while one is.
    journal: Option<Vec<Change>>,
}

#[derive(Debug)]
enum Change {
    Inserted(Entry),
    Removed(Entry),
}

/// Changes that writers may wait for while the next generation takes its place.
const LAST_CHANGES: usize = 64;

impl Group {
    pub fn new(config: IndexConfig) -> Self {
        let lists = RwLock::new(Arc::new(Lists::build(Vec::new(), &config)));
        Self { config, lists, entries: AtomicUsize::new(0), writer: Mutex::default() }
    }

    pub fn len(&self) -> usize {
        self.entries.load(Ordering::Relaxed)
    }

    #[cfg(test)]
    pub fn has_centres(&self) -> bool {
        self.lists().has_centres()
    }

    pub fn insert(&self, entry: Entry) {
        let mut writer = self.writer.lock();
        self.lists().push(entry.clone());
        self.entries.fetch_add(1, Ordering::Relaxed);
        writer.note(Change::Inserted(entry));
    }

    pub fn remove(&self, id: ExampleId, vector: &UnitVector) -> bool {
        let mut writer = self.writer.lock();
        let removed = self.lists().remove(id, vector);
        if removed {
            self.entries.fetch_sub(1, Ordering::Relaxed);
            writer.note(Change::Removed(Entry { id, vector: vector.clone() }));
        }
        removed
    }

    pub fn nearest(&self, query: &UnitVector, k: usize, floor: f32) -> Vec<(ExampleId, f32)> {
        self.lists().nearest(query, k, floor)
    }

    /// Builds the next generation if the present one is stale; true if it did. Searches and changes go on meanwhile.
    pub fn rebuild_if_stale(&self) -> bool {
        if !self.lists().is_stale(self.len(), &self.config) {
            return false;
        }
        let Some(building) = Building::begin(self) else { return false };
        let next = Lists::build(self.lists().entries(), &self.config);
        loop {
            let mut writer = self.writer.lock();
            let changes = writer.journal.replace(Vec::new()).unwrap_or_default();
            if changes.len() > LAST_CHANGES {
                drop(writer);
                replay(&next, changes);
                continue;
            }
            replay(&next, changes);
            *self.lists.write() = Arc::new(next);
            break;
        }
        drop(building);
        true
    }

    fn lists(&self) -> Arc<Lists> {
        Arc::clone(&self.lists.read())
    }
}

impl Writer {
    fn note(&mut self, change: Change) {
        if let Some(journal) = &mut self.journal {
            journal.push(change);
        }
    }
}

/// While it lives, changes are noted. It ends with the build, however that ends.
struct Building<'g>(&'g Group);

impl<'g> Building<'g> {
    /// `None`: another build is under way.
    fn begin(group: &'g Group) -> Option<Self> {
        let mut writer = group.writer.lock();
        if writer.journal.is_some() {
            return None;
        }
        writer.journal = Some(Vec::new());
        Some(Self(group))
    }
}

impl Drop for Building<'_> {
    fn drop(&mut self) {
        self.0.writer.lock().journal = None;
    }
}

/// The lists may hold some of it already: they were read while it happened.
fn replay(lists: &Lists, changes: Vec<Change>) {
    for change in changes {
        match change {
            Change::Inserted(entry) => {
                lists.remove(entry.id, &entry.vector);
                lists.push(entry);
            }
            Change::Removed(Entry { id, vector }) => {
                lists.remove(id, &vector);
            }
        }
    }
}
