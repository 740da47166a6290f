//! One tenant's memory under one embedder: what is in RAM, and its keys in the store.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use parking_lot::{Mutex, RwLock};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::{
    CacheConfig, Example, ExampleId, Fingerprint, Index, Instructions, ModelHash, StoredAnswer, TenantId,
    UnitVector,
};

#[derive(Debug)]
pub struct Partition {
    pub tenant: TenantId,
    /// SHA-256 of tenant and model: every key of this partition begins with it, and none of another does.
    id: [u8; 32],
    /// Written under `writer`.
    pub examples: RwLock<HashMap<ExampleId, Arc<Example>>>,
    /// Written under `writer`; follows `examples`.
    pub index: Index,
    /// Written under `writer`.
    pub answers: RwLock<HashMap<Fingerprint, Remembered>>,
    /// Examples whose counts changed since they were last stored.
    pub dirty: Mutex<HashSet<ExampleId>>,
    /// One writer at a time: the store first, then RAM. True once the partition is in the store's registry.
    pub writer: Mutex<bool>,
}

/// An exact answer with what eviction weighs.
#[derive(Debug, Clone)]
pub struct Remembered {
    pub answer: Arc<StoredAnswer>,
    pub bytes: usize,
    pub value: f64,
    pub valued_at_ms: i64,
}

/// The form of an example in the store; the vector stands beside it.
#[derive(Debug, Serialize, Deserialize)]
pub struct ExampleRecord {
    id: ExampleId,
    request: String,
    answer: String,
    /// Absent: none.
    #[serde(default, skip_serializing_if = "Instructions::is_none")]
    instructions: Instructions,
    source: String,
    quality: Option<f32>,
    created_at_ms: i64,
    updated_at_ms: i64,
    value: f64,
    valued_at_ms: i64,
    replay_gain: f64,
    uses: u64,
    /// Absent in records of before it was counted.
    #[serde(default)]
    missed: u64,
    replays: u32,
    merged: u32,
}

/// What a key is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Example,
    Answer,
}

/// What a key of the store names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Named<'k> {
    /// A partition, by its id.
    Registered(&'k [u8]),
    Example {
        partition: &'k [u8],
        id: ExampleId,
    },
    Answer {
        partition: &'k [u8],
        fingerprint: Fingerprint,
    },
}

impl<'k> Named<'k> {
    /// `None`: no key of ours.
    pub fn parse(key: &'k [u8]) -> Option<Self> {
        let (space, rest) = key.split_first()?;
        let (partition, rest) = rest.split_at_checked(32)?;
        match (*space, rest.split_first()) {
            (REGISTRY, None) => Some(Self::Registered(partition)),
            (DATA, Some((b'e', id))) => Some(Self::Example { partition, id: ExampleId::from_bytes(id)? }),
            (DATA, Some((b'x', fingerprint))) => {
                Some(Self::Answer { partition, fingerprint: Fingerprint::from_bytes(fingerprint)? })
            }
            _ => None,
        }
    }
}

impl Kind {
    fn tag(self) -> u8 {
        match self {
            Self::Example => b'e',
            Self::Answer => b'x',
        }
    }
}

/// Keys of the registry of partitions begin with this, keys of data with [`DATA`].
pub const REGISTRY: u8 = b't';
const DATA: u8 = b'p';

impl Partition {
    pub fn new(tenant: TenantId, model: &ModelHash, config: &CacheConfig) -> Self {
        let mut hasher = Sha256::new();
        hasher.update((tenant.as_str().len() as u64).to_le_bytes());
        hasher.update(tenant.as_str());
        hasher.update(model.as_bytes());
        Self {
            id: hasher.finalize().into(),
            tenant,
            examples: RwLock::default(),
            index: Index::new(config.index),
            answers: RwLock::default(),
            dirty: Mutex::default(),
            writer: Mutex::new(false),
        }
    }

    pub fn id(&self) -> &[u8; 32] {
        &self.id
    }

    pub fn registry_key(&self) -> Vec<u8> {
        [&[REGISTRY], &self.id[..]].concat()
    }

    /// Of all entries of a kind.
    pub fn prefix(&self, kind: Kind) -> Vec<u8> {
        [&[DATA], &self.id[..], &[kind.tag()]].concat()
    }

    pub fn example_key(&self, id: &ExampleId) -> Vec<u8> {
        [self.prefix(Kind::Example), id.as_bytes().to_vec()].concat()
    }

    pub fn answer_key(&self, fingerprint: &Fingerprint) -> Vec<u8> {
        [self.prefix(Kind::Answer), fingerprint.as_bytes().to_vec()].concat()
    }

    /// Puts an example in RAM, in place of its older self; the index follows. Under `writer`.
    pub fn hold(&self, example: Example) -> Arc<Example> {
        let example = Arc::new(example);
        let old = self.examples.write().insert(example.id, Arc::clone(&example));
        let same =
            |old: &Example| old.embedding == example.embedding && old.instructions == example.instructions;
        if !old.as_deref().is_some_and(same) {
            if let Some(old) = old {
                self.index.remove(old.id, &old.embedding, old.instructions);
            }
            self.index.insert(example.id, example.embedding.clone(), example.instructions);
        }
        example
    }

    /// Takes an example out of RAM; false if it was not there. Under `writer`.
    pub fn release(&self, id: ExampleId) -> bool {
        let Some(old) = self.examples.write().remove(&id) else { return false };
        self.index.remove(id, &old.embedding, old.instructions);
        self.dirty.lock().remove(&id);
        true
    }

    pub fn bytes(&self) -> usize {
        let examples: usize = self.examples.read().values().map(|example| example.bytes).sum();
        let answers: usize = self.answers.read().values().map(|answer| answer.bytes).sum();
        examples + answers
    }
}

impl Remembered {
    pub fn new(answer: StoredAnswer, value: f64) -> Self {
        const OVERHEAD: usize = 200;
        let bytes = answer.text.len() + answer.model.len() + answer.tier.len() + OVERHEAD;
        Self { bytes, value, valued_at_ms: answer.created_at_ms, answer: Arc::new(answer) }
    }

    /// As an example's: decayed, one for each time it was served.
    pub fn value_at(&self, config: &CacheConfig, now_ms: i64) -> f64 {
        let hours = (now_ms - self.valued_at_ms).max(0) as f64 / 3_600_000.0;
        self.value * config.decay_per_hour.powf(hours)
    }
}

impl ExampleRecord {
    pub fn of(example: &Example) -> Self {
        Self {
            id: example.id,
            request: example.request.clone(),
            answer: example.answer.clone(),
            instructions: example.instructions,
            source: example.source.clone(),
            quality: example.quality,
            created_at_ms: example.created_at_ms,
            updated_at_ms: example.updated_at_ms,
            value: example.value,
            valued_at_ms: example.valued_at_ms,
            replay_gain: example.replay_gain,
            uses: example.uses,
            missed: example.missed,
            replays: example.replays,
            merged: example.merged,
        }
    }

    pub fn into_example(self, embedding: UnitVector) -> Example {
        Example {
            bytes: Example::count_bytes(&self.request, &self.answer, embedding.dimensions()),
            id: self.id,
            request: self.request,
            answer: self.answer,
            instructions: self.instructions,
            embedding,
            source: self.source,
            quality: self.quality,
            created_at_ms: self.created_at_ms,
            updated_at_ms: self.updated_at_ms,
            value: self.value,
            valued_at_ms: self.valued_at_ms,
            replay_gain: self.replay_gain,
            uses: self.uses,
            missed: self.missed,
            replays: self.replays,
            merged: self.merged,
        }
    }
}
