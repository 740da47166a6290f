use std::time::Duration;

use crate::IndexConfig;

/// How the cache remembers. How it selects is [`SelectionConfig`](crate::selection::SelectionConfig).
#[derive(Debug, Clone, PartialEq)]
pub struct CacheConfig {
    /// Of all tenants together; eviction brings the sum under it.
    pub byte_budget: usize,
    /// Least cosine similarity of what [`nearest`](crate::TenantCache::nearest) returns.
    pub similarity_floor: f32,
    /// From this similarity on a new example updates the old one, if no guard tells them apart.
    pub duplicate_similarity: f32,
    /// Longest request and answer together.
    pub max_example_bytes: usize,
    /// Longest answer that is kept for exact reuse.
    pub max_answer_bytes: usize,
    /// So long after its making an entry is not evicted, as far as `grace_share` of the budget holds all such entries:
    /// the newest ones could otherwise never earn a value beside old ones.
    pub grace: Duration,
    /// In [0, 1].
    pub grace_share: f64,
    /// What remains of an example's value after an hour. 0.9 is the paper's.
    pub decay_per_hour: f64,
    /// Value of a new example, so that it is not the first to go; about half an offload.
    pub initial_value: f64,
    /// Weight of the newest observation in the replay gain's average.
    pub gain_ema: f64,
    pub index: IndexConfig,
}

impl CacheConfig {
    /// Of the budget, for entries in their grace.
    pub(crate) fn grace_bytes(&self) -> usize {
        (self.byte_budget as f64 * self.grace_share) as usize
    }

    /// Its age in milliseconds, while its youth keeps an entry from eviction.
    pub(crate) fn age_in_grace(&self, created_at_ms: i64, now_ms: i64) -> Option<i64> {
        let grace_ms = i64::try_from(self.grace.as_millis()).unwrap_or(i64::MAX);
        Some(now_ms.saturating_sub(created_at_ms)).filter(|age| *age < grace_ms)
    }
}

impl Default for CacheConfig {
    fn default() -> Self {
        Self {
            byte_budget: 256 << 20,
            similarity_floor: 0.5,
            duplicate_similarity: 0.97,
            max_example_bytes: 32 << 10,
            max_answer_bytes: 256 << 10,
            grace: Duration::from_secs(15 * 60),
            grace_share: 0.1,
            decay_per_hour: 0.9,
            initial_value: 0.5,
            gain_ema: 0.3,
            index: IndexConfig::default(),
        }
    }
}
