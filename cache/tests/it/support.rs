use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use rand::{Rng, SeedableRng, rngs::SmallRng};
use reprise_cache::{
    Admission, Cache, CacheConfig, ExampleId, Fingerprint, LoggedChange, MemoryStore, ModelHash, NewExample,
    Store, StoreError, StoredAnswer, TenantId, UnitVector, Write,
};
use serde_json::json;

pub use reprise_cache::Instructions;

pub const DIMENSIONS: usize = 24;
pub const HOUR_MS: i64 = 3_600_000;

pub fn model() -> ModelHash {
    ModelHash::new([9; 32])
}

pub fn tenant(name: &str) -> TenantId {
    name.parse().unwrap()
}

/// Its own direction for each seed.
pub fn vector(seed: u64) -> UnitVector {
    let mut rng = SmallRng::seed_from_u64(seed);
    UnitVector::try_new((0..DIMENSIONS).map(|_| rng.random_range(-1.0..1.0)).collect()).unwrap()
}

/// As like the vector of the seed as two wordings of one request.
pub fn close_to(seed: u64) -> UnitVector {
    let mut values = vector(seed).as_slice().to_vec();
    values[0] += 0.02;
    UnitVector::try_new(values).unwrap()
}

pub fn new(seed: u64, request: &str, answer: &str, quality: Option<f32>) -> NewExample {
    NewExample {
        request: request.into(),
        answer: answer.into(),
        instructions: Instructions::NONE,
        embedding: vector(seed),
        source: "large".into(),
        quality,
    }
}

/// No floor, so that whatever is there is found.
pub fn config() -> CacheConfig {
    CacheConfig { similarity_floor: -1.0, ..CacheConfig::default() }
}

pub fn open(store: &Arc<dyn Store>, config: CacheConfig) -> Cache {
    Cache::open(config, model(), DIMENSIONS, Arc::clone(store)).unwrap()
}

pub fn in_memory(config: CacheConfig) -> Cache {
    open(&(Arc::new(MemoryStore::default()) as Arc<dyn Store>), config)
}

pub fn inserted(admission: Admission) -> ExampleId {
    match admission {
        Admission::Inserted(id) => id,
        Admission::Merged(id) => panic!("merged into {id}"),
    }
}

pub fn fingerprint(seed: u64) -> Fingerprint {
    Fingerprint::of([("seed", &json!(seed))])
}

pub fn answer(text: &str, created_at_ms: i64) -> StoredAnswer {
    StoredAnswer {
        text: text.into(),
        finish_reason: "stop".into(),
        prompt_tokens: 3,
        completion_tokens: 1,
        tier: "small".into(),
        model: "m".into(),
        created_at_ms,
    }
}

/// A real store whose disk can be made to fill up.
#[derive(Debug, Default)]
pub struct FullDisk {
    pub inner: MemoryStore,
    pub full: AtomicBool,
}

impl Store for FullDisk {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        self.inner.get(key)
    }

    fn write(&self, writes: &[Write]) -> Result<u64, StoreError> {
        if self.full.load(Ordering::Relaxed) {
            return Err(StoreError::Io("no space left on device".into()));
        }
        self.inner.write(writes)
    }

    fn scan(&self, prefix: &[u8], visit: &mut dyn FnMut(&[u8], &[u8])) -> Result<(), StoreError> {
        self.inner.scan(prefix, visit)
    }

    fn sequence(&self) -> u64 {
        self.inner.sequence()
    }

    fn changes_since(&self, sequence: u64, limit: usize) -> Result<Vec<LoggedChange>, StoreError> {
        self.inner.changes_since(sequence, limit)
    }

    fn flush(&self) -> Result<(), StoreError> {
        self.inner.flush()
    }

    fn size_on_disk(&self) -> Result<u64, StoreError> {
        self.inner.size_on_disk()
    }
}
