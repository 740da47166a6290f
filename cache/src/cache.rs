use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use parking_lot::{Mutex, RwLock};
use schemars::JsonSchema;
use serde::Serialize;

use crate::{
    CacheConfig, CacheError, ExampleId, Fingerprint, ModelHash, Store, StoreError, TenantCache, TenantId,
    Write,
    eviction::{self, Item},
    follow::Feed,
    partition::Partition,
    utility_versions::ActiveUtility,
};

/// All tenants' memory under one embedder.
///
/// It hands out a [`TenantCache`] for one tenant and keeps house; it offers no way to look into several at once.
#[derive(Debug)]
pub struct Cache {
    pub(crate) shared: Arc<Shared>,
    /// Grows by one at a tenant's first request; nothing is held of it while a partition is worked on.
    pub(crate) partitions: RwLock<BTreeMap<TenantId, Arc<Partition>>>,
    /// One maintenance run at a time.
    maintenance: Mutex<()>,
}

/// What every tenant's handle needs.
#[derive(Debug)]
pub struct Shared {
    pub config: CacheConfig,
    pub model: ModelHash,
    pub dimensions: usize,
    pub store: Arc<dyn Store>,
    pub undecodable: AtomicU64,
    /// Replaced as a whole when a model is installed or set back; read once a request.
    pub utility: RwLock<ActiveUtility>,
    /// Held while a model is stored, which blocks on the disk; `utility` is not meanwhile.
    pub installing: Mutex<()>,
    degraded: AtomicBool,
    /// How far the store's change feed was followed. Held for moments, also under a partition's writer lock.
    pub feed: Mutex<Feed>,
}

/// The cache in numbers.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct CacheStats {
    pub tenants: usize,
    pub examples: usize,
    pub answers: usize,
    /// What counts against the budget.
    pub bytes: usize,
    pub byte_budget: usize,
    /// Stored values that did not decode when they were read.
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
    pub evicted_bytes: usize,
    /// Changes that others made in the store.
    pub followed: usize,
    /// Partitions of whose index a new generation was built.
    pub rebuilt: usize,
}

/// Eviction goes down to this share of the budget, so that it does not run at every step.
const EVICTION_TARGET: f64 = 0.95;

impl Shared {
    /// Writes to the store and remembers whether it could.
    pub fn write(&self, writes: &[Write]) -> Result<(), StoreError> {
        let result = self.store.write(writes);
        if self.degraded.swap(result.is_err(), Ordering::Relaxed) != result.is_err() {
            match &result {
                Ok(_) => tracing::info!("the store takes writes again"),
                Err(error) => {
                    tracing::error!(%error, "the store refuses writes: the cache only reads from now on");
                }
            }
        }
        let last = result?;
        let first = (last + 1).saturating_sub(writes.len() as u64);
        self.feed.lock().wrote(first, last);
        Ok(())
    }
}

impl Cache {
    /// Reads everything that the store holds of this embedder. Searches are exact, and of many examples slower, until
    /// [`Self::maintain`] has built their lists. Blocks on the disk.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn open(
        config: CacheConfig,
        model: ModelHash,
        dimensions: usize,
        store: Arc<dyn Store>,
    ) -> Result<Self, CacheError> {
        // Read first: what is written while the cache loads is followed afterwards.
        let newest = store.sequence();
        let shared = Shared {
            config,
            model,
            dimensions,
            store,
            undecodable: AtomicU64::new(0),
            utility: RwLock::default(),
            installing: Mutex::default(),
            degraded: AtomicBool::new(false),
            feed: Mutex::new(Feed::at(newest)),
        };
        let cache =
            Self { shared: Arc::new(shared), partitions: RwLock::default(), maintenance: Mutex::default() };
        cache.read_all(newest)?;
        cache.shared.load_utility()?;
        Ok(cache)
    }

    /// The memory of one tenant: the only way to any of it.
    #[must_use]
    pub fn tenant(&self, tenant: &TenantId) -> TenantCache {
        TenantCache::new(Arc::clone(&self.shared), self.partition(tenant))
    }

    pub(crate) fn partition(&self, tenant: &TenantId) -> Arc<Partition> {
        let known = self.partitions.read().get(tenant).cloned();
        known.unwrap_or_else(|| {
            let mut partitions = self.partitions.write();
            let new = || Arc::new(Partition::new(tenant.clone(), &self.shared.model, &self.shared.config));
            Arc::clone(partitions.entry(tenant.clone()).or_insert_with(new))
        })
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

    /// Follows the store's change feed, evicts down to the byte budget and rebuilds stale indexes, beside everything
    /// else. Values decay by themselves, in closed form. Takes seconds for large partitions: for a thread of its own.
    ///
    /// # Errors
    /// The store refused a deletion or cannot be read; indexes are rebuilt all the same.
    pub fn maintain(&self, now_ms: i64) -> Result<Maintenance, CacheError> {
        let _alone = self.maintenance.lock();
        let evicted = self.follow().and_then(|followed| Ok(Maintenance { followed, ..self.evict(now_ms)? }));
        let rebuilt = self.all().iter().filter(|partition| partition.index.rebuild_if_stale()).count();
        Ok(Maintenance { rebuilt, ..evicted? })
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
        let newcomer = |created_ms: i64| config.age_in_grace(created_ms, now_ms);
        let (mut items, mut owners) = (Vec::new(), Vec::new());
        for (at, partition) in partitions.iter().enumerate() {
            for example in partition.examples.read().values() {
                items.push(Item {
                    value: example.value_at(config, now_ms),
                    bytes: example.bytes,
                    newcomer: newcomer(example.created_at_ms),
                });
                owners.push((at, Owned::Example(example.id)));
            }
            for (fingerprint, answer) in partition.answers.read().iter() {
                items.push(Item {
                    value: answer.value_at(config, now_ms),
                    bytes: answer.bytes,
                    newcomer: newcomer(answer.answer.created_at_ms),
                });
                owners.push((at, Owned::Answer(*fingerprint)));
            }
        }
        let budget = config.byte_budget as f64;
        let kept = eviction::keep(&items, (budget * EVICTION_TARGET) as usize, config.grace_bytes());
        let mut done = Maintenance::default();
        let victims = owners.into_iter().zip(&items).zip(kept).filter(|(_, kept)| !kept);
        for (((at, owned), item), _) in victims {
            let tenant = TenantCache::new(Arc::clone(&self.shared), Arc::clone(&partitions[at]));
            let (evicted, count) = match owned {
                Owned::Example(id) => (tenant.delete(id)?, &mut done.evicted_examples),
                Owned::Answer(fingerprint) => (tenant.forget(&fingerprint)?, &mut done.evicted_answers),
            };
            *count += usize::from(evicted);
            done.evicted_bytes += if evicted { item.bytes } else { 0 };
        }
        Ok(done)
    }
}

#[derive(Debug, Clone, Copy)]
enum Owned {
    Example(ExampleId),
    Answer(Fingerprint),
}
