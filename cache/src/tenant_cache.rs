use std::{sync::Arc, time::Duration};

use serde::Serialize;
use thiserror::Error;

use crate::{
    CacheError, Candidate, Example, ExampleId, Fingerprint, NewExample, Outcome, StoreError, StoredAnswer,
    TenantId, UnitVector, Write,
    cache::Shared,
    guard,
    partition::{ExampleRecord, Partition, Remembered},
    scrub,
    store::codec,
};

/// One tenant's memory. It holds that tenant's partition and no way to any other.
#[derive(Debug, Clone)]
pub struct TenantCache {
    shared: Arc<Shared>,
    partition: Arc<Partition>,
}

/// What became of a new example.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(tag = "admission", content = "id", rename_all = "snake_case")]
pub enum Admission {
    Inserted(ExampleId),
    /// It is a near-duplicate of this one, which took over what of it was better.
    Merged(ExampleId),
}

/// Why an example is not taken in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum Refusal {
    #[error("the request is empty")]
    EmptyRequest,
    #[error("the answer is empty")]
    EmptyAnswer,
    #[error("request and answer have {bytes} bytes together, but at most {limit} are taken")]
    TooLong { bytes: usize, limit: usize },
    #[error("the quality is not between 0 and 1")]
    Quality,
}

/// What to change in an example; `None` leaves it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ExampleChange {
    pub answer: Option<String>,
    pub quality: Option<f32>,
    pub source: Option<String>,
    /// Replay asked again for its answer.
    pub replayed: bool,
}

/// How a listing is ordered.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Order {
    /// Replay gain, greatest first.
    Gain,
    /// Value, greatest first: what eviction takes last.
    Value,
    /// Newest first.
    #[default]
    Recent,
}

/// Part of a listing.
#[derive(Debug, Clone)]
pub struct Page {
    pub examples: Vec<Arc<Example>>,
    pub has_more: bool,
}

impl TenantCache {
    pub(crate) fn new(shared: Arc<Shared>, partition: Arc<Partition>) -> Self {
        Self { shared, partition }
    }

    #[must_use]
    pub fn tenant(&self) -> &TenantId {
        &self.partition.tenant
    }

    /// Examples.
    #[must_use]
    pub fn len(&self) -> usize {
        self.partition.examples.read().len()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

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

    /// Remembers a whole answer, in place of an older one. The answer is scrubbed of nothing: it goes back only to
    /// whoever asks the very same thing.
    ///
    /// # Errors
    /// The store refused; nothing changed.
    pub fn put_exact(&self, fingerprint: &Fingerprint, answer: StoredAnswer) -> Result<(), CacheError> {
        let Some(value) = codec::encode(&self.shared.model, &answer, &[]) else { return Ok(()) };
        let mut registered = self.partition.writer.lock();
        self.store(&mut registered, Write::Put { key: self.partition.answer_key(fingerprint), value })?;
        let remembered = Remembered::new(answer, self.shared.config.initial_value);
        self.partition.answers.write().insert(*fingerprint, remembered);
        Ok(())
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

    /// The `k` nearest examples above the configured floor, nearest first.
    #[must_use]
    pub fn nearest(&self, query: &UnitVector, k: usize) -> Vec<Candidate> {
        let found = self.partition.index.nearest(query, k, self.shared.config.similarity_floor);
        let examples = self.partition.examples.read();
        let candidate =
            |(id, similarity)| Some(Candidate { example: Arc::clone(examples.get(&id)?), similarity });
        found.into_iter().filter_map(candidate).collect()
    }

    /// Takes in a new example: scrubbed, and merged into a near-duplicate if there is one.
    ///
    /// # Errors
    /// [`CacheError::Refused`] says what is wrong with it; otherwise the store refused. Nothing changed.
    pub fn admit(&self, new: &NewExample, now_ms: i64) -> Result<Admission, CacheError> {
        let (request, answer) = (scrub(&new.request), scrub(&new.answer));
        self.acceptable(&request, &answer, new)?;
        let config = &self.shared.config;
        let mut registered = self.partition.writer.lock();
        let twin = self.twin(&request, &new.embedding);
        let (example, admission) = match twin {
            Some(twin) => {
                let merged = merge(&twin, &answer, new, now_ms);
                (merged, Admission::Merged(twin.id))
            }
            None => {
                let id = ExampleId::generate();
                let example = Example {
                    id,
                    request: request.into_owned(),
                    answer: answer.into_owned(),
                    embedding: new.embedding.clone(),
                    source: new.source.clone(),
                    quality: new.quality,
                    created_at_ms: now_ms,
                    updated_at_ms: now_ms,
                    value: config.initial_value,
                    valued_at_ms: now_ms,
                    replay_gain: 0.0,
                    uses: 0,
                    replays: 0,
                    merged: 0,
                    bytes: 0,
                };
                (example, Admission::Inserted(id))
            }
        };
        self.keep(&mut registered, example)?;
        Ok(admission)
    }

    #[must_use]
    pub fn get(&self, id: ExampleId) -> Option<Arc<Example>> {
        self.partition.examples.read().get(&id).cloned()
    }

    /// At most `limit` examples in the given order, behind `after`. An `after` that has gone begins at the top.
    #[must_use]
    pub fn list(&self, order: Order, limit: usize, after: Option<ExampleId>, now_ms: i64) -> Page {
        let mut all: Vec<Arc<Example>> = self.partition.examples.read().values().cloned().collect();
        let config = &self.shared.config;
        let rank = |example: &Example| match order {
            Order::Gain => example.replay_gain,
            Order::Value => example.value_at(config, now_ms),
            Order::Recent => example.updated_at_ms as f64,
        };
        all.sort_by(|a, b| rank(b).total_cmp(&rank(a)).then(b.id.cmp(&a.id)));
        let begin = after
            .and_then(|after| all.iter().position(|example| example.id == after))
            .map_or(0, |position| position + 1);
        let has_more = all.len() - begin > limit;
        Page { examples: all.into_iter().skip(begin).take(limit).collect(), has_more }
    }

    /// Changes an example, and returns it as it is now.
    ///
    /// # Errors
    /// There is no such example, the change is refused, or the store refused it.
    pub fn update(
        &self,
        id: ExampleId,
        change: &ExampleChange,
        now_ms: i64,
    ) -> Result<Arc<Example>, CacheError> {
        let mut registered = self.partition.writer.lock();
        let mut example = self.get(id).ok_or(CacheError::UnknownExample(id))?.as_ref().clone();
        if let Some(answer) = &change.answer {
            let answer = scrub(answer);
            if answer.trim().is_empty() {
                return Err(Refusal::EmptyAnswer.into());
            }
            self.fits(&example.request, &answer)?;
            example.answer = answer.into_owned();
            // The gain was that of the old answer.
            example.replay_gain = 0.0;
            example.quality = None;
        }
        if let Some(quality) = change.quality {
            if !(0.0..=1.0).contains(&quality) {
                return Err(Refusal::Quality.into());
            }
            example.quality = Some(quality);
        }
        if let Some(source) = &change.source {
            example.source.clone_from(source);
        }
        example.replays += u32::from(change.replayed);
        example.updated_at_ms = now_ms;
        self.keep(&mut registered, example)
    }

    /// False if there was no such example.
    ///
    /// # Errors
    /// The store refused; nothing changed.
    pub fn delete(&self, id: ExampleId) -> Result<bool, CacheError> {
        let _alone = self.partition.writer.lock();
        if self.get(id).is_none() {
            return Ok(false);
        }
        self.shared.write(&[Write::Delete { key: self.partition.example_key(&id) }])?;
        self.partition.index.remove(id);
        self.partition.dirty.lock().remove(&id);
        Ok(self.partition.examples.write().remove(&id).is_some())
    }

    /// Deletes everything of this tenant, exact answers too; returns how many examples there were.
    ///
    /// # Errors
    /// The store refused; what was deleted before stays deleted.
    pub fn clear(&self) -> Result<usize, CacheError> {
        let ids: Vec<ExampleId> = self.partition.examples.read().keys().copied().collect();
        let mut deleted = 0;
        for id in ids {
            deleted += usize::from(self.delete(id)?);
        }
        let fingerprints: Vec<Fingerprint> = self.partition.answers.read().keys().copied().collect();
        for fingerprint in fingerprints {
            self.forget(&fingerprint)?;
        }
        Ok(deleted)
    }

    /// Credits examples that stood in a prompt with how its answer turned out. Kept in RAM until the next flush.
    pub fn credit(&self, ids: &[ExampleId], outcome: &Outcome, now_ms: i64) {
        self.change_counts(ids, |example| example.used(outcome, &self.shared.config, now_ms));
    }

    /// The quality of an answer that was credited before, known only now.
    pub fn judge(&self, ids: &[ExampleId], outcome: &Outcome, now_ms: i64) {
        self.change_counts(ids, |example| example.judged(outcome, &self.shared.config, now_ms));
    }

    fn change_counts(&self, ids: &[ExampleId], change: impl Fn(&mut Example)) {
        let mut examples = self.partition.examples.write();
        let mut dirty = self.partition.dirty.lock();
        for id in ids {
            if let Some(example) = examples.get_mut(id) {
                change(Arc::make_mut(example));
                dirty.insert(*id);
            }
        }
    }

    /// Stores the counts that `credit` and `judge` changed.
    pub(crate) fn store_counts(&self) -> Result<(), StoreError> {
        let _alone = self.partition.writer.lock();
        let dirty = std::mem::take(&mut *self.partition.dirty.lock());
        let writes: Vec<Write> = {
            let examples = self.partition.examples.read();
            dirty.iter().filter_map(|id| self.encoded(examples.get(id)?)).collect()
        };
        if writes.is_empty() {
            return Ok(());
        }
        let written = self.shared.write(&writes);
        if written.is_err() {
            self.partition.dirty.lock().extend(dirty);
        }
        written
    }

    fn acceptable(&self, request: &str, answer: &str, new: &NewExample) -> Result<(), CacheError> {
        let expected = self.shared.dimensions;
        if new.embedding.dimensions() != expected {
            return Err(CacheError::Dimensions { expected, got: new.embedding.dimensions() });
        }
        if request.trim().is_empty() {
            return Err(Refusal::EmptyRequest.into());
        }
        if answer.trim().is_empty() {
            return Err(Refusal::EmptyAnswer.into());
        }
        if new.quality.is_some_and(|quality| !(0.0..=1.0).contains(&quality)) {
            return Err(Refusal::Quality.into());
        }
        self.fits(request, answer)
    }

    fn fits(&self, request: &str, answer: &str) -> Result<(), CacheError> {
        let (bytes, limit) = (request.len() + answer.len(), self.shared.config.max_example_bytes);
        if bytes > limit { Err(Refusal::TooLong { bytes, limit }.into()) } else { Ok(()) }
    }

    /// An example that says the same, whatever an embedding cannot tell apart.
    fn twin(&self, request: &str, embedding: &UnitVector) -> Option<Arc<Example>> {
        let near = self.partition.index.nearest(embedding, 4, self.shared.config.duplicate_similarity);
        let examples = self.partition.examples.read();
        let mut alike = near.into_iter().filter_map(|(id, _)| examples.get(&id));
        alike.find(|example| guard::may_be_the_same(&example.request, request)).cloned()
    }

    /// The store first, then RAM: what is found is what is stored.
    fn keep(&self, registered: &mut bool, mut example: Example) -> Result<Arc<Example>, CacheError> {
        example.bytes =
            Example::count_bytes(&example.request, &example.answer, example.embedding.dimensions());
        if let Some(write) = self.encoded(&example) {
            self.store(registered, write)?;
        }
        let example = Arc::new(example);
        let old = self.partition.examples.write().insert(example.id, Arc::clone(&example));
        if old.is_none_or(|old| old.embedding != example.embedding) {
            self.partition.index.insert(example.id, example.embedding.clone());
        }
        Ok(example)
    }

    fn encoded(&self, example: &Example) -> Option<Write> {
        let record = ExampleRecord::of(example);
        let value = codec::encode(&self.shared.model, &record, example.embedding.as_slice())?;
        Some(Write::Put { key: self.partition.example_key(&example.id), value })
    }

    /// With the first write the partition enters the registry, in the same batch.
    fn store(&self, registered: &mut bool, write: Write) -> Result<(), StoreError> {
        let mut writes = vec![write];
        if !*registered && let Some(value) = codec::encode(&self.shared.model, &self.partition.tenant, &[]) {
            writes.push(Write::Put { key: self.partition.registry_key(), value });
        }
        self.shared.write(&writes)?;
        *registered = true;
        Ok(())
    }
}

/// A measured answer wins over an unmeasured one, and the better over the worse; among unmeasured ones the first stays.
fn merge(old: &Example, answer: &str, new: &NewExample, now_ms: i64) -> Example {
    let better = match (new.quality, old.quality) {
        (Some(new), Some(old)) => new > old,
        (Some(_), None) => true,
        (None, _) => false,
    };
    let mut merged = old.clone();
    merged.merged += 1;
    if better {
        answer.clone_into(&mut merged.answer);
        merged.source.clone_from(&new.source);
        merged.quality = new.quality;
        merged.replay_gain = 0.0;
        merged.updated_at_ms = now_ms;
    }
    merged
}
