use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use parking_lot::{Mutex, RwLock};
use serde::Serialize;

use crate::{
    CacheConfig, CacheError, ExampleId, Fingerprint, ModelHash, Store, StoreError, TenantCache, TenantId,
    UnitVector, Write,
    eviction::{self, Item},
    partition::{ExampleRecord, Kind, Partition, REGISTRY, Remembered},
    store::codec,
};

/// All tenants' memory under one embedder.
///
/// It hands out a [`TenantCache`] for one tenant and keeps house; it offers no way to look into several at once.
#[derive(Debug)]
pub struct Cache {
    shared: Arc<Shared>,
    partitions: RwLock<BTreeMap<TenantId, Arc<Partition>>>,
    /// One maintenance run at a time.
    maintenance: Mutex<()>,
}

/// What every tenant's handle needs.
#[derive(Debug)]
pub struct Shared {
    pub config: CacheConfig,
    pub model: ModelHash,
    pub dimensions: usize,
    store: Arc<dyn Store>,
    undecodable: AtomicU64,
    degraded: AtomicBool,
}

/// The cache in numbers.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct CacheStats {
    pub tenants: usize,
    pub examples: usize,
    pub answers: usize,
    /// What counts against the budget.
    pub bytes: usize,
    pub byte_budget: usize,
    /// Stored values that did not decode when the cache opened.
    pub undecodable: u64,
    /// The store refused the last write: answers go on, nothing new is remembered.
    pub degraded: bool,
    /// Number of the store's last write.
    pub sequence: u64,
}

/// What a maintenance run did.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Maintenance {
    pub evicted_examples: usize,
    pub evicted_answers: usize,
    /// Partitions whose search graph was built anew.
    pub rebuilt: usize,
}

/// Eviction goes down to this share of the budget, so that it does not run at every step.
const EVICTION_TARGET: f64 = 0.95;

impl Shared {
    /// Writes to the store and remembers whether it could.
    pub fn write(&self, writes: &[Write]) -> Result<(), StoreError> {
        let result = self.store.write(writes);
        self.degraded.store(result.is_err(), Ordering::Relaxed);
        result.map(|_| ())
    }
}

impl Cache {
    /// Reads everything that the store holds of this embedder, and builds the indexes. Blocks on the disk.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn open(
        config: CacheConfig,
        model: ModelHash,
        dimensions: usize,
        store: Arc<dyn Store>,
    ) -> Result<Self, CacheError> {
        let shared = Arc::new(Shared {
            config,
            model,
            dimensions,
            store,
            undecodable: AtomicU64::new(0),
            degraded: AtomicBool::new(false),
        });
        let mut tenants = Vec::new();
        shared.store.scan(&[REGISTRY], &mut |_, value| {
            tenants.extend(codec::decode::<TenantId>(&model, value).map(|(tenant, _)| tenant));
        })?;
        let mut partitions = BTreeMap::new();
        for tenant in tenants {
            let partition = Partition::new(tenant.clone(), &model, &shared.config, true);
            load(&shared, &partition)?;
            partition.index.rebuild_if_stale();
            partitions.insert(tenant, Arc::new(partition));
        }
        Ok(Self { shared, partitions: RwLock::new(partitions), maintenance: Mutex::default() })
    }

    /// The memory of one tenant: the only way to any of it.
    #[must_use]
    pub fn tenant(&self, tenant: &TenantId) -> TenantCache {
        let known = self.partitions.read().get(tenant).cloned();
        let partition = known.unwrap_or_else(|| {
            let mut partitions = self.partitions.write();
            let new =
                || Arc::new(Partition::new(tenant.clone(), &self.shared.model, &self.shared.config, false));
            Arc::clone(partitions.entry(tenant.clone()).or_insert_with(new))
        });
        TenantCache::new(Arc::clone(&self.shared), partition)
    }

    /// Tenants that have or had something here.
    #[must_use]
    pub fn tenants(&self) -> Vec<TenantId> {
        self.partitions.read().keys().cloned().collect()
    }

    #[must_use]
    pub fn stats(&self) -> CacheStats {
        let partitions = self.all();
        CacheStats {
            tenants: partitions.len(),
            examples: partitions.iter().map(|partition| partition.examples.read().len()).sum(),
            answers: partitions.iter().map(|partition| partition.answers.read().len()).sum(),
            bytes: partitions.iter().map(|partition| partition.bytes()).sum(),
            byte_budget: self.shared.config.byte_budget,
            undecodable: self.shared.undecodable.load(Ordering::Relaxed),
            degraded: self.shared.degraded.load(Ordering::Relaxed),
            sequence: self.shared.store.sequence(),
        }
    }

    /// Stores changed counts and hands all writes to the operating system. Blocks on the disk.
    ///
    /// # Errors
    /// The disk refused; what could not be stored is tried again by the next flush.
    pub fn flush(&self) -> Result<(), CacheError> {
        for partition in self.all() {
            TenantCache::new(Arc::clone(&self.shared), partition).store_counts()?;
        }
        let flushed = self.shared.store.flush();
        if flushed.is_err() {
            self.shared.degraded.store(true, Ordering::Relaxed);
        }
        Ok(flushed?)
    }

    /// # Errors
    /// The store's files cannot be read.
    pub fn size_on_disk(&self) -> Result<u64, CacheError> {
        Ok(self.shared.store.size_on_disk()?)
    }

    /// Evicts down to the byte budget and rebuilds stale search graphs, beside everything else. Takes seconds for large
    /// partitions: for a thread of its own.
    ///
    /// # Errors
    /// The store refused a deletion.
    pub fn maintain(&self, now_ms: i64) -> Result<Maintenance, CacheError> {
        let _alone = self.maintenance.lock();
        let mut done = self.evict(now_ms)?;
        done.rebuilt = self.all().iter().filter(|partition| partition.index.rebuild_if_stale()).count();
        Ok(done)
    }

    fn all(&self) -> Vec<Arc<Partition>> {
        self.partitions.read().values().cloned().collect()
    }

    /// One knapsack over all tenants: value is comparable across them, bytes are what they share.
    fn evict(&self, now_ms: i64) -> Result<Maintenance, CacheError> {
        let config = &self.shared.config;
        let partitions = self.all();
        if partitions.iter().map(|partition| partition.bytes()).sum::<usize>() <= config.byte_budget {
            return Ok(Maintenance::default());
        }
        let (mut items, mut owners) = (Vec::new(), Vec::new());
        for (at, partition) in partitions.iter().enumerate() {
            for example in partition.examples.read().values() {
                items.push(Item { value: example.value_at(config, now_ms), bytes: example.bytes });
                owners.push((at, Owned::Example(example.id)));
            }
            for (fingerprint, answer) in partition.answers.read().iter() {
                items.push(Item { value: answer.value_at(config, now_ms), bytes: answer.bytes });
                owners.push((at, Owned::Answer(*fingerprint)));
            }
        }
        let kept = eviction::keep(&items, (config.byte_budget as f64 * EVICTION_TARGET) as usize);
        let mut done = Maintenance::default();
        for ((at, owned), _) in owners.into_iter().zip(kept).filter(|(_, kept)| !kept) {
            let tenant = TenantCache::new(Arc::clone(&self.shared), Arc::clone(&partitions[at]));
            match owned {
                Owned::Example(id) => done.evicted_examples += usize::from(tenant.delete(id)?),
                Owned::Answer(fingerprint) => {
                    done.evicted_answers += usize::from(tenant.forget(&fingerprint)?);
                }
            }
        }
        Ok(done)
    }
}

#[derive(Debug, Clone, Copy)]
enum Owned {
    Example(ExampleId),
    Answer(Fingerprint),
}

/// Reads a partition into RAM. What does not decode is a miss, and counted.
fn load(shared: &Shared, partition: &Partition) -> Result<(), StoreError> {
    let mut undecodable = 0;
    shared.store.scan(&partition.prefix(Kind::Example), &mut |_, value| {
        let decoded = codec::decode::<ExampleRecord>(&shared.model, value)
            .filter(|(_, vector)| vector.len() == shared.dimensions)
            .and_then(|(record, vector)| Some(record.into_example(UnitVector::try_new(vector).ok()?)));
        match decoded {
            Some(example) => {
                partition.index.insert(example.id, example.embedding.clone());
                partition.examples.write().insert(example.id, Arc::new(example));
            }
            None => undecodable += 1,
        }
    })?;
    let prefix = partition.prefix(Kind::Answer);
    shared.store.scan(&prefix, &mut |key, value| {
        let fingerprint = key.get(prefix.len()..).and_then(Fingerprint::from_bytes);
        match (fingerprint, codec::decode(&shared.model, value)) {
            (Some(fingerprint), Some((answer, _))) => {
                let remembered = Remembered::new(answer, shared.config.initial_value);
                partition.answers.write().insert(fingerprint, remembered);
            }
            _ => undecodable += 1,
        }
    })?;
    shared.undecodable.fetch_add(undecodable, Ordering::Relaxed);
    Ok(())
}
