//! Finding a key without telling by the time taken what other keys are like.
//!
//! A key's SHA-256 is looked up under a number that a secret of this process makes of it (SipHash), and what is found there
//! is compared in constant time: neither a guess's first wrong byte nor which key it is near to shows.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};

use subtle::ConstantTimeEq;

use super::key::{Digest, sha256};

#[derive(Debug)]
pub struct HashIndex<T> {
    secret: RandomState,
    places: HashMap<u64, Vec<(Digest, T)>>,
}

impl<T> Default for HashIndex<T> {
    fn default() -> Self {
        Self { secret: RandomState::new(), places: HashMap::new() }
    }
}

impl<T> HashIndex<T> {
    pub fn insert(&mut self, digest: Digest, value: T) {
        let place = self.secret.hash_one(digest.0);
        self.places.entry(place).or_default().push((digest, value));
    }

    /// What was put in last for this key.
    #[must_use]
    pub fn find(&self, presented: &str) -> Option<&T> {
        let digest = sha256(presented);
        let mut found = None;
        for (other, value) in self.places.get(&self.secret.hash_one(digest.0)).into_iter().flatten() {
            if bool::from(other.0.ct_eq(&digest.0)) {
                found = Some(value);
            }
        }
        found
    }
}
