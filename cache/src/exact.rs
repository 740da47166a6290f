//! Exact reuse: the same request again, the same answer.

use std::{borrow::Cow, sync::Arc, time::Duration};

use crate::{
    CacheError, Fingerprint, StoredAnswer, TenantCache, Write, partition::Remembered, scrub, store::codec,
};

impl TenantCache {
    /// The answer to the very same request, unless it is older than `max_age`. Being served raises its value.
    #[must_use]
    pub fn exact(
        &self,
        fingerprint: &Fingerprint,
        max_age: Option<Duration>,
        now_ms: i64,
    ) -> Option<Arc<StoredAnswer>> {
        let mut answers = self.partition.answers.write();
        let remembered = answers.get_mut(fingerprint)?;
        let age_ms = u128::try_from(now_ms - remembered.answer.created_at_ms).unwrap_or(0);
        if max_age.is_some_and(|limit| age_ms > limit.as_millis()) {
            return None;
        }
        remembered.value = remembered.value_at(&self.shared.config, now_ms) + 1.0;
        remembered.valued_at_ms = remembered.valued_at_ms.max(now_ms);
        Some(Arc::clone(&remembered.answer))
    }

    /// Remembers a whole answer, in place of an older one. False if it is not one to store: it is too long, or holds
    /// personal data or secrets, which are never stored, and which must not be missing when the answer is served.
    ///
    /// # Errors
    /// The store refused; nothing changed.
    pub fn put_exact(&self, fingerprint: &Fingerprint, answer: StoredAnswer) -> Result<bool, CacheError> {
        let is_private = || matches!(scrub(&answer.text), Cow::Owned(_));
        if answer.text.len() > self.shared.config.max_answer_bytes || is_private() {
            return Ok(false);
        }
        let Some(value) = codec::encode(&self.shared.model, &answer, &[]) else { return Ok(false) };
        let mut registered = self.partition.writer.lock();
        self.store(&mut registered, Write::Put { key: self.partition.answer_key(fingerprint), value })?;
        let remembered = Remembered::new(answer, self.shared.config.initial_value);
        self.partition.answers.write().insert(*fingerprint, remembered);
        Ok(true)
    }

    /// Forgets an exact answer; false if there was none.
    ///
    /// # Errors
    /// The store refused; nothing changed.
    pub fn forget(&self, fingerprint: &Fingerprint) -> Result<bool, CacheError> {
        let _alone = self.partition.writer.lock();
        if !self.partition.answers.read().contains_key(fingerprint) {
            return Ok(false);
        }
        self.shared.write(&[Write::Delete { key: self.partition.answer_key(fingerprint) }])?;
        Ok(self.partition.answers.write().remove(fingerprint).is_some())
    }
}
