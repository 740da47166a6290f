//! What every handler shares.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use jiff::Timestamp;
use reprise_cache::{Cache, Embedder};
use reprise_router::{Pool, Router};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::auth::Keyring;
use crate::chat::ShadowBudget;
use crate::config::Config;
use crate::decisions::DecisionLog;
use crate::metrics::Metrics;
use crate::responses::ResponseStore;

/// How handlers get at it.
pub type SharedState = Arc<AppState>;

#[derive(Debug)]
pub struct AppState {
    pub config: Config,
    pub keys: Keyring,
    /// Tiers come up inside it: a tier that is not there yet is `Loading`.
    pub pool: Pool,
    pub router: Router,
    /// Set once, when the embedder has loaded and the store is open; requests before are served without.
    pub memory: OnceLock<Memory>,
    /// Whether `memory` may still come.
    pub settling: Settling,
    pub decisions: DecisionLog,
    /// What clients of the Responses API may come back to.
    pub responses: ResponseStore,
    pub metrics: Metrics,
    /// Requests that may be under way at once.
    pub slots: Arc<Semaphore>,
    /// Searches that may run at once on blocking threads.
    pub searches: Arc<Semaphore>,
    /// Work after an answer; more than these is dropped and counted, never queued.
    pub afterwards: Arc<Semaphore>,
    /// What shadow runs may take.
    pub shadow: ShadowBudget,
    /// Tasks that shutdown waits for.
    pub tasks: TaskTracker,
    /// Cancelled when shutdown begins: nothing new is taken on.
    pub shutdown: CancellationToken,
    /// Cancelled when the time to drain is over: what still runs is ended.
    pub abort: CancellationToken,
    pub started: Instant,
    pub started_at: Timestamp,
}

/// The cache and the embedder that its vectors come from: one is of no use without the other.
#[derive(Debug, Clone)]
pub struct Memory {
    pub cache: Arc<Cache>,
    pub embedder: Arc<dyn Embedder>,
}

/// A flag that is raised once.
#[derive(Debug, Default)]
pub struct Settling(AtomicBool);

impl Settling {
    #[must_use]
    pub fn settled() -> Self {
        Self(AtomicBool::new(true))
    }

    pub fn settle(&self) {
        self.0.store(true, Ordering::Release);
    }

    #[must_use]
    pub fn is_settled(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

impl AppState {
    /// A tier answers, and it is known whether there is a cache. False again once shutdown has begun.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.pool.any_ready() && self.settling.is_settled() && !self.shutdown.is_cancelled()
    }

    /// `None` while it loads, if it failed to, or if it is switched off.
    #[must_use]
    pub fn memory(&self) -> Option<&Memory> {
        self.memory.get()
    }

    #[must_use]
    pub fn cache(&self) -> Option<&Arc<Cache>> {
        self.memory.get().map(|memory| &memory.cache)
    }

    #[must_use]
    pub fn data_dir(&self) -> &Path {
        &self.config.data_dir
    }
}

/// Milliseconds since 1970, as the cache takes its time.
#[must_use]
pub fn now_ms() -> i64 {
    Timestamp::now().as_millisecond()
}
