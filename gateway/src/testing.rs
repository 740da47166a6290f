//! The state of a gateway in memory, for tests: everything is real but its tiers and its embedder.

use std::sync::{Arc, OnceLock};
use std::time::Instant;

use arc_swap::ArcSwap;
use async_trait::async_trait;
use jiff::Timestamp;
use reprise_accounts::{Desk, KeyBook, LedgerOptions};
use reprise_cache::{Cache, CacheConfig, EmbedError, Embedder, MemoryStore, ModelHash, UnitVector};
use reprise_router::{Pool, Router, Share};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::auth::Keyring;
use crate::config::Config;
use crate::decisions::DecisionLog;
use crate::metrics::Metrics;
use crate::state::{AppState, Memory, Settling, SharedState};

/// One direction a word, so that texts with common words are near.
#[derive(Debug)]
pub struct Words {
    pub dimensions: usize,
    pub max_tokens: usize,
    /// Never answers.
    pub stuck: bool,
}

#[async_trait]
impl Embedder for Words {
    fn model_hash(&self) -> ModelHash {
        ModelHash::new([7; 32])
    }

    fn dimensions(&self) -> usize {
        self.dimensions
    }

    fn max_tokens(&self) -> usize {
        self.max_tokens
    }

    /// Each word is one, and two marks stand around them.
    fn count_tokens(&self, text: &str) -> Result<usize, EmbedError> {
        Ok(text.split_whitespace().count() + 2)
    }

    async fn embed(&self, text: &str) -> Result<UnitVector, EmbedError> {
        if self.stuck {
            std::future::pending::<()>().await;
        }
        let mut vector = vec![0.0; self.dimensions];
        for word in text.split_whitespace() {
            let hash = word.bytes().fold(17_usize, |hash, byte| hash.wrapping_mul(31) ^ usize::from(byte));
            vector[hash % self.dimensions] += 1.0;
        }
        Ok(UnitVector::try_new(vector)?)
    }
}

/// Keeps its files in the configuration's data folder, and the newest `decisions`.
pub fn state(config: Config, pool: Pool, words: Words, decisions: usize) -> SharedState {
    let embedder: Arc<dyn Embedder> = Arc::new(words);
    let store = Arc::new(MemoryStore::default());
    let cache = Cache::open(CacheConfig::default(), embedder.model_hash(), embedder.dimensions(), store);
    let memory = Memory { cache: Arc::new(cache.unwrap()), embedder };
    let keys = KeyBook::open(&config.data_dir.join("keys.log")).unwrap();
    Arc::new(AppState {
        keys: Keyring::new(&config.auth, true, keys).unwrap(),
        desk: Desk::open(LedgerOptions::new(config.data_dir.join("usage"))).unwrap().0,
        flights: crate::chat::Flights::default(),
        retries: Share::new(config.resilience.retry_share),
        hedges: Share::new(config.resilience.hedge_share),
        pool,
        router: Router::new(config.router.clone()).unwrap(),
        memory: OnceLock::from(memory),
        settling: Settling::settled(),
        decisions: DecisionLog::new(decisions),
        responses: crate::responses::ResponseStore::new(&config.data_dir),
        metrics: Metrics::new().unwrap(),
        slots: Arc::new(Semaphore::new(config.server.max_concurrent_requests)),
        searches: Arc::new(Semaphore::new(1)),
        afterwards: Arc::new(Semaphore::new(1)),
        shadow: crate::chat::ShadowBudget::new(0, Instant::now()),
        telemetry: crate::telemetry::Telemetry::default(),
        tasks: TaskTracker::new(),
        shutdown: CancellationToken::new(),
        abort: CancellationToken::new(),
        started: Instant::now(),
        started_at: Timestamp::now(),
        configuration: ArcSwap::from_pointee(config),
    })
}
