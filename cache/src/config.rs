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
    /// What remains of an example's value after an hour. 0.9 is the paper's.
    pub decay_per_hour: f64,
    /// Value of a new example, so that it is not the first to go; about half an offload.
    pub initial_value: f64,
    /// Weight of the newest observation in the replay gain's average.
    pub gain_ema: f64,
    pub index: IndexConfig,
}

impl Default for CacheConfig {
    fn default() -> Self {
        Self {
            byte_budget: 256 << 20,
            similarity_floor: 0.5,
            duplicate_similarity: 0.97,
            max_example_bytes: 32 << 10,
            decay_per_hour: 0.9,
            initial_value: 0.5,
            gain_ema: 0.3,
            index: IndexConfig::default(),
        }
    }
}
