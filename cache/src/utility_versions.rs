//! The utility models that training delivered, each under a number, and which of them scores.
//!
//! Installing never overwrites: going back to an older version is one write. Version 0 is the similarity prior, which is
//! always there. A model that does not decode (another embedder's, a damaged value) is a miss: the prior scores.

use std::{
    collections::BTreeMap,
    sync::{Arc, atomic::Ordering},
};

use schemars::JsonSchema;
use serde::Serialize;

use crate::{
    Cache, CacheError, StoreError, Write,
    cache::Shared,
    selection::{SimilarityPrior, Utility, UtilityModel},
    store::codec,
};

/// Keys of this space begin with it; a version's number follows, or [`ACTIVE`].
pub const SPACE: u8 = b'u';
const ACTIVE: &[u8] = b"active";
/// Older ones are deleted, but never the one that scores.
const KEPT: usize = 8;

/// The one that scores.
#[derive(Debug, Clone)]
pub struct ActiveUtility {
    /// 0: the prior.
    pub version: u32,
    pub utility: Arc<dyn Utility>,
}

/// A version that is stored.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct UtilityVersion {
    pub version: u32,
    pub active: bool,
    pub tau: f32,
    pub trained_on: String,
}

impl Default for ActiveUtility {
    fn default() -> Self {
        Self { version: 0, utility: Arc::new(SimilarityPrior) }
    }
}

impl Cache {
    /// What scores candidates now. Cheap: a pointer is cloned.
    #[must_use]
    pub fn utility(&self) -> ActiveUtility {
        self.shared.utility.read().clone()
    }

    /// All stored versions, oldest first; without the prior.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn utility_versions(&self) -> Result<Vec<UtilityVersion>, CacheError> {
        let active = self.utility().version;
        let row = |(version, model): (u32, UtilityModel)| {
            let weights = model.weights();
            UtilityVersion {
                version,
                active: version == active,
                tau: weights.tau,
                trained_on: weights.trained_on.clone(),
            }
        };
        Ok(self.shared.stored_utilities()?.into_iter().map(row).collect())
    }

    /// Stores a model under the next number and lets it score from now on. Returns the number.
    ///
    /// # Errors
    /// The model is for other embeddings, or the store refused; nothing changed.
    pub fn install_utility(&self, model: UtilityModel) -> Result<u32, CacheError> {
        let (expected, got) = (self.shared.dimensions, model.weights().dimensions);
        if got != expected {
            return Err(CacheError::Dimensions { expected, got });
        }
        let _alone = self.shared.installing.lock();
        let active = self.utility();
        let stored = self.shared.stored_utilities()?;
        let version = stored.keys().next_back().copied().unwrap_or(0).max(active.version) + 1;
        let encoded = |value: Option<Vec<u8>>| {
            value.ok_or_else(|| StoreError::Io("a utility model is no JSON".to_owned()))
        };
        let mut writes = vec![
            Write::Put {
                key: key(version),
                value: encoded(codec::encode(&self.shared.model, model.weights(), &[]))?,
            },
            Write::Put {
                key: active_key(),
                value: encoded(codec::encode(&self.shared.model, &version, &[]))?,
            },
        ];
        let excess = (stored.len() + 1).saturating_sub(KEPT);
        let old = stored.keys().filter(|old| **old != active.version).take(excess);
        writes.extend(old.map(|old| Write::Delete { key: key(*old) }));
        self.shared.write(&writes)?;
        *self.shared.utility.write() = ActiveUtility { version, utility: Arc::new(model) };
        Ok(version)
    }

    /// Lets another stored version score, or with 0 the prior. False if there is no such version.
    ///
    /// # Errors
    /// The store refused or cannot be read; nothing changed.
    pub fn activate_utility(&self, version: u32) -> Result<bool, CacheError> {
        let _alone = self.shared.installing.lock();
        let next = match version {
            0 => ActiveUtility::default(),
            _ => match self.shared.stored_utilities()?.remove(&version) {
                Some(model) => ActiveUtility { version, utility: Arc::new(model) },
                None => return Ok(false),
            },
        };
        let Some(value) = codec::encode(&self.shared.model, &version, &[]) else { return Ok(false) };
        self.shared.write(&[Write::Put { key: active_key(), value }])?;
        *self.shared.utility.write() = next;
        Ok(true)
    }
}

impl Shared {
    /// Makes RAM what the store says: at start, and when another gateway on the same store installed a model.
    pub fn load_utility(&self) -> Result<(), StoreError> {
        let _alone = self.installing.lock();
        let version = self.store.get(&active_key())?;
        let version = version.and_then(|value| codec::decode::<u32>(&self.model, &value)).map(|(v, _)| v);
        let wanted = version.unwrap_or(0);
        if wanted == self.utility.read().version {
            return Ok(());
        }
        let next = match self.store.get(&key(wanted))?.and_then(|value| self.decoded(&value)) {
            Some(model) => ActiveUtility { version: wanted, utility: Arc::new(model) },
            None => ActiveUtility::default(),
        };
        *self.utility.write() = next;
        Ok(())
    }

    fn stored_utilities(&self) -> Result<BTreeMap<u32, UtilityModel>, StoreError> {
        let mut stored = BTreeMap::new();
        self.store.scan(&[SPACE], &mut |key, value| {
            let number = key.get(1..).and_then(|rest| rest.try_into().ok()).map(u32::from_be_bytes);
            if let Some(number) = number
                && let Some(model) = self.decoded(value)
            {
                stored.insert(number, model);
            }
        })?;
        Ok(stored)
    }

    fn decoded(&self, value: &[u8]) -> Option<UtilityModel> {
        let model = codec::decode::<UtilityModel>(&self.model, value).map(|(model, _)| model);
        let fits = model.filter(|model| model.weights().dimensions == self.dimensions);
        if fits.is_none() {
            self.undecodable.fetch_add(1, Ordering::Relaxed);
        }
        fits
    }
}

fn key(version: u32) -> Vec<u8> {
    [&[SPACE], &version.to_be_bytes()[..]].concat()
}

fn active_key() -> Vec<u8> {
    [&[SPACE], ACTIVE].concat()
}
