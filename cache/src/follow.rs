//! The index follows the store's change feed: what another writer of the same store did comes in here.
//!
//! Own writes are in RAM already when they are in the feed. They are known by their sequence numbers and passed over, so
//! that counts which are newer in RAM than in the store are not set back. A reader that is further behind than the
//! feed reaches reads everything again.

use std::{
    collections::{HashSet, VecDeque},
    sync::{Arc, atomic::Ordering},
};

use crate::{
    Cache, CacheError, Example, ExampleId, Fingerprint, StoredAnswer, TenantId, UnitVector,
    cache::Shared,
    partition::{ExampleRecord, Kind, Named, Partition, REGISTRY, Remembered},
    store::{LoggedChange, codec},
    utility_versions::SPACE as UTILITY,
};

/// How far the feed was followed.
#[derive(Debug, Default)]
pub struct Feed {
    /// All up to this one is in RAM.
    applied: u64,
    /// Own writes behind it, as (first, last), in order. Empty unless someone else writes too.
    own: VecDeque<(u64, u64)>,
}

impl Feed {
    pub fn at(applied: u64) -> Self {
        Self { applied, own: VecDeque::new() }
    }

    /// Notes an own write.
    pub fn wrote(&mut self, first: u64, last: u64) {
        if first == self.applied + 1 {
            self.applied = last;
        } else if last > self.applied {
            let at = self.own.partition_point(|(other, _)| *other < first);
            self.own.insert(at, (first, last));
        }
    }

    fn is_own(&self, sequence: u64) -> bool {
        sequence <= self.applied || self.own.iter().any(|(first, last)| (*first..=*last).contains(&sequence))
    }

    fn advance(&mut self, to: u64) {
        self.applied = self.applied.max(to);
        while let Some((first, last)) = self.own.front().copied() {
            if first > self.applied + 1 {
                break;
            }
            self.applied = self.applied.max(last);
            self.own.pop_front();
        }
    }
}

/// Changes read at once.
const BATCH: usize = 1024;

impl Cache {
    /// Takes in what others wrote to the store; returns how many changes that were.
    ///
    /// # Errors
    /// The store cannot be read; the next call goes on from there.
    pub fn follow(&self) -> Result<usize, CacheError> {
        let mut followed = 0;
        loop {
            let applied = self.shared.feed.lock().applied;
            let newest = self.shared.store.sequence();
            if newest <= applied {
                return Ok(followed);
            }
            let changes = self.shared.store.changes_since(applied, BATCH)?;
            if changes.first().is_none_or(|first| first.sequence != applied + 1) {
                // A write of our own may have moved on meanwhile: then nothing is missing.
                if self.shared.feed.lock().applied == applied {
                    followed += self.read_all(newest)?;
                }
                continue;
            }
            for change in &changes {
                followed += usize::from(self.apply(change)?);
            }
        }
    }

    /// False if it was our own.
    fn apply(&self, change: &LoggedChange) -> Result<bool, CacheError> {
        let foreign = match Named::parse(&change.key) {
            Some(Named::Registered(_)) => self.take_in_tenant(change)?,
            Some(Named::Example { partition, id }) => match self.partition_with(partition) {
                Some(partition) => self.take_in(&partition, change, |value| match value {
                    Some(value) => hold_example(&self.shared, &partition, value),
                    None => {
                        partition.release(id);
                    }
                })?,
                None => false,
            },
            Some(Named::Answer { partition, fingerprint }) => match self.partition_with(partition) {
                Some(partition) => self.take_in(&partition, change, |value| match value {
                    Some(value) => hold_answer(&self.shared, &partition, fingerprint, value),
                    None => {
                        partition.answers.write().remove(&fingerprint);
                    }
                })?,
                None => false,
            },
            None if change.key.first() == Some(&UTILITY) => {
                let before = self.utility().version;
                self.shared.load_utility()?;
                self.utility().version != before
            }
            None => false,
        };
        self.shared.feed.lock().advance(change.sequence);
        Ok(foreign)
    }

    fn take_in_tenant(&self, change: &LoggedChange) -> Result<bool, CacheError> {
        let Some(value) = self.shared.store.get(&change.key)? else { return Ok(false) };
        let Some((tenant, _)) = codec::decode::<TenantId>(&self.shared.model, &value) else {
            return Ok(false);
        };
        let partition = self.partition(&tenant);
        let mut registered = partition.writer.lock();
        *registered = true;
        Ok(!self.shared.feed.lock().is_own(change.sequence))
    }

    /// Under the partition's lock, which own writers hold from the store's write to RAM's.
    fn take_in(
        &self,
        partition: &Partition,
        change: &LoggedChange,
        put: impl FnOnce(Option<&[u8]>),
    ) -> Result<bool, CacheError> {
        let _alone = partition.writer.lock();
        if self.shared.feed.lock().is_own(change.sequence) {
            return Ok(false);
        }
        put(self.shared.store.get(&change.key)?.as_deref());
        Ok(true)
    }

    fn partition_with(&self, id: &[u8]) -> Option<Arc<Partition>> {
        self.partitions.read().values().find(|partition| partition.id() == id).cloned()
    }

    /// Makes RAM what the store is.
    pub(crate) fn read_all(&self, newest: u64) -> Result<usize, CacheError> {
        let mut tenants = Vec::new();
        self.shared.store.scan(&[REGISTRY], &mut |_, value| {
            tenants.extend(codec::decode::<TenantId>(&self.shared.model, value).map(|(tenant, _)| tenant));
        })?;
        let mut read = 0;
        for tenant in tenants {
            let partition = self.partition(&tenant);
            let mut registered = partition.writer.lock();
            *registered = true;
            read += load(&self.shared, &partition)?;
        }
        self.shared.feed.lock().advance(newest);
        Ok(read)
    }
}

/// Reads a partition into RAM, and takes out what the store no longer has. What does not decode is a miss, and counted.
fn load(shared: &Shared, partition: &Partition) -> Result<usize, CacheError> {
    let mut examples: HashSet<ExampleId> = HashSet::new();
    shared.store.scan(&partition.prefix(Kind::Example), &mut |key, value| {
        if let Some(Named::Example { id, .. }) = Named::parse(key) {
            hold_example(shared, partition, value);
            examples.insert(id);
        }
    })?;
    let mut answers: HashSet<Fingerprint> = HashSet::new();
    shared.store.scan(&partition.prefix(Kind::Answer), &mut |key, value| {
        if let Some(Named::Answer { fingerprint, .. }) = Named::parse(key) {
            hold_answer(shared, partition, fingerprint, value);
            answers.insert(fingerprint);
        }
    })?;
    let gone: Vec<ExampleId> =
        partition.examples.read().keys().filter(|id| !examples.contains(id)).copied().collect();
    for id in gone {
        partition.release(id);
    }
    partition.answers.write().retain(|fingerprint, _| answers.contains(fingerprint));
    Ok(examples.len() + answers.len())
}

fn hold_example(shared: &Shared, partition: &Partition, value: &[u8]) {
    match decode_example(shared, value) {
        Some(example) => {
            partition.dirty.lock().remove(&example.id);
            partition.hold(example);
        }
        None => {
            shared.undecodable.fetch_add(1, Ordering::Relaxed);
        }
    }
}

fn decode_example(shared: &Shared, value: &[u8]) -> Option<Example> {
    let (record, vector) = codec::decode::<ExampleRecord>(&shared.model, value)?;
    let fits = vector.len() == shared.dimensions;
    fits.then(|| UnitVector::try_new(vector).ok()).flatten().map(|vector| record.into_example(vector))
}

fn hold_answer(shared: &Shared, partition: &Partition, fingerprint: Fingerprint, value: &[u8]) {
    match codec::decode::<StoredAnswer>(&shared.model, value) {
        Some((answer, _)) => {
            let remembered = Remembered::new(answer, shared.config.initial_value);
            partition.answers.write().insert(fingerprint, remembered);
        }
        None => {
            shared.undecodable.fetch_add(1, Ordering::Relaxed);
        }
    }
}
