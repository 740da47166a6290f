use std::{collections::HashSet, sync::Arc};

use crate::{
    CacheError, Candidate, Example, ExampleId, Fingerprint, Instructions, Outcome, Refusal, StoreError,
    TenantId, UnitVector, Write,
    cache::Shared,
    eviction::{self, Item},
    orders::gives_orders,
    partition::{ExampleRecord, Partition},
    scrub,
    store::codec,
};

/// One tenant's memory. It holds that tenant's partition and no way to any other.
#[derive(Debug, Clone)]
pub struct TenantCache {
    pub(crate) shared: Arc<Shared>,
    pub(crate) partition: Arc<Partition>,
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
    /// What eviction takes first: least value for its bytes; newcomers in their grace come last.
    Eviction,
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

    /// The `k` nearest examples under the same instructions, above the configured floor, nearest first.
    #[must_use]
    pub fn nearest(&self, query: &UnitVector, k: usize, under: Instructions) -> Vec<Candidate> {
        let found = self.partition.index.nearest(query, k, self.shared.config.similarity_floor, under);
        let examples = self.partition.examples.read();
        let candidate =
            |(id, similarity)| Some(Candidate { example: Arc::clone(examples.get(&id)?), similarity });
        found.into_iter().filter_map(candidate).collect()
    }

    #[must_use]
    pub fn get(&self, id: ExampleId) -> Option<Arc<Example>> {
        self.partition.examples.read().get(&id).cloned()
    }

    /// At most `limit` examples in the given order, behind `after`. An `after` that has gone begins at the top.
    #[must_use]
    pub fn list(&self, order: Order, limit: usize, after: Option<ExampleId>, now_ms: i64) -> Page {
        self.find("", order, limit, after, now_ms)
    }

    /// The same of the examples that hold `text` in request, answer or source, in whatever case; an empty one is in all.
    #[must_use]
    pub fn find(
        &self,
        text: &str,
        order: Order,
        limit: usize,
        after: Option<ExampleId>,
        now_ms: i64,
    ) -> Page {
        let text = text.to_lowercase();
        let holds = |part: &str| part.to_lowercase().contains(&text);
        let mut all: Vec<Arc<Example>> = self.partition.examples.read().values().cloned().collect();
        all.retain(|it| text.is_empty() || holds(&it.request) || holds(&it.answer) || holds(&it.source));
        let config = &self.shared.config;
        let safe = if order == Order::Eviction { self.newcomers(now_ms) } else { HashSet::new() };
        let rank = |example: &Example| match order {
            Order::Gain => example.replay_gain,
            Order::Value => example.value_at(config, now_ms),
            Order::Recent => example.updated_at_ms as f64,
            Order::Eviction if safe.contains(&example.id) => f64::NEG_INFINITY,
            Order::Eviction => -example.value_at(config, now_ms) / example.bytes.max(1) as f64,
        };
        all.sort_by(|a, b| rank(b).total_cmp(&rank(a)).then(b.id.cmp(&a.id)));
        let begin = after
            .and_then(|after| all.iter().position(|example| example.id == after))
            .map_or(0, |position| position + 1);
        let has_more = all.len() - begin > limit;
        Page { examples: all.into_iter().skip(begin).take(limit).collect(), has_more }
    }

    /// Those that their grace keeps from eviction. Other tenants' newcomers share that part of the budget and are not looked
    /// at: with many of them, fewer of these are safe.
    fn newcomers(&self, now_ms: i64) -> HashSet<ExampleId> {
        let config = &self.shared.config;
        let examples = self.partition.examples.read();
        let (ids, items): (Vec<ExampleId>, Vec<Item>) = examples
            .values()
            .map(|example| {
                let newcomer = config.age_in_grace(example.created_at_ms, now_ms);
                (example.id, Item { value: 0.0, bytes: example.bytes, newcomer })
            })
            .unzip();
        let safe = eviction::protected(&items, config.grace_bytes());
        ids.into_iter().zip(safe).filter(|(_, safe)| *safe).map(|(id, _)| id).collect()
    }

    /// What replay should ask again: greatest gain first, at most `limit`, none that had `max_replays` already (the
    /// paper's is 5: what did not get better by then will not).
    #[must_use]
    pub fn replay_candidates(&self, max_replays: u32, limit: usize) -> Vec<Arc<Example>> {
        let mut all: Vec<Arc<Example>> = {
            let examples = self.partition.examples.read();
            let wanted = |example: &&Arc<Example>| example.replays < max_replays && example.replay_gain > 0.0;
            examples.values().filter(wanted).cloned().collect()
        };
        all.sort_by(|a, b| b.replay_gain.total_cmp(&a.replay_gain).then(b.id.cmp(&a.id)));
        all.truncate(limit);
        all
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
            if gives_orders(&answer) {
                return Err(Refusal::GivesOrders.into());
            }
            self.fits(&example.request, &answer)?;
            example.answer = answer.into_owned();
            // The gain was that of the old answer.
            example.replay_gain = 0.0;
            example.missed = 0;
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
        Ok(self.partition.release(id))
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

    /// Notes examples that would have stood in a prompt if their answers were better, where a tier of this relative cost
    /// answered. Kept in RAM until the next flush.
    pub fn missed(&self, ids: &[ExampleId], cost: f32) {
        self.change_counts(ids, |example| example.was_missed(cost, &self.shared.config));
    }

    /// The quality of an answer that was credited before, known only now.
    pub fn judge(&self, ids: &[ExampleId], outcome: &Outcome, now_ms: i64) {
        self.change_counts(ids, |example| example.judged(outcome, &self.shared.config, now_ms));
    }

    fn change_counts(&self, ids: &[ExampleId], change: impl Fn(&mut Example)) {
        let _alone = self.partition.writer.lock();
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

    /// The store first, then RAM: what is found is what is stored.
    pub(crate) fn keep(
        &self,
        registered: &mut bool,
        mut example: Example,
    ) -> Result<Arc<Example>, CacheError> {
        example.bytes =
            Example::count_bytes(&example.request, &example.answer, example.embedding.dimensions());
        if let Some(write) = self.encoded(&example) {
            self.store(registered, write)?;
        }
        Ok(self.partition.hold(example))
    }

    fn encoded(&self, example: &Example) -> Option<Write> {
        let record = ExampleRecord::of(example);
        let value = codec::encode(&self.shared.model, &record, example.embedding.as_slice())?;
        Some(Write::Put { key: self.partition.example_key(&example.id), value })
    }

    /// With the first write the partition enters the registry, in the same batch.
    pub(crate) fn store(&self, registered: &mut bool, write: Write) -> Result<(), StoreError> {
        let mut writes = Vec::with_capacity(2);
        // First, so that whoever follows the change feed knows the partition before its first entry.
        if !*registered && let Some(value) = codec::encode(&self.shared.model, &self.partition.tenant, &[]) {
            writes.push(Write::Put { key: self.partition.registry_key(), value });
        }
        writes.push(write);
        self.shared.write(&writes)?;
        *registered = true;
        Ok(())
    }
}
