//! What every handler shares.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use arc_swap::ArcSwap;
use jiff::Timestamp;
use reprise_accounts::Desk;
use reprise_cache::{Cache, Embedder};
use reprise_router::{Pool, Router, Share};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::auth::Keyring;
use crate::chat::{Flights, ShadowBudget};
use crate::config::Config;
use crate::decisions::DecisionLog;
use crate::metrics::Metrics;
use crate::responses::ResponseStore;
use crate::telemetry::Telemetry;

/// How handlers get at it.
pub type SharedState = Arc<AppState>;

#[derive(Debug)]
pub struct AppState {
    /// Replaced as a whole when the file is read again.
    pub configuration: ArcSwap<Config>,
    pub keys: Keyring,
    /// Where every request reserves and settles what it uses.
    pub desk: Desk,
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
    /// Traces; nothing where it is off.
    pub telemetry: Telemetry,
    /// Requests that may be under way at once.
    pub slots: Arc<Semaphore>,
    /// Searches that may run at once on blocking threads.
    pub searches: Arc<Semaphore>,
    /// Work after an answer; more than these is dropped and counted, never queued.
    pub afterwards: Arc<Semaphore>,
    /// Deterministic requests under way, for those that ask the same.
    pub flights: Flights,
    /// Retries, as a share of the requests.
    pub retries: Share,
    /// Requests asked twice at once, as a share of all.
    pub hedges: Share,
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
    pub fn data_dir(&self) -> PathBuf {
        self.config().data_dir.clone()
    }

    /// As it is now; a request that needs it twice asks once.
    #[must_use]
    pub fn config(&self) -> Arc<Config> {
        self.configuration.load_full()
    }
}

/// Milliseconds since 1970, as the cache takes its time.
#[must_use]
pub fn now_ms() -> i64 {
    Timestamp::now().as_millisecond()
}
