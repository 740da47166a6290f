//! A gateway in memory: everything is real but its tiers and its embedder.

use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use arc_swap::ArcSwap;
use async_trait::async_trait;
use axum::body::{Body, to_bytes};
use axum::extract::ConnectInfo;
use axum::http::Request;
use axum::response::Response;
use jiff::Timestamp;
use reprise_accounts::{Desk, KeyBook, LedgerOptions};
use reprise_cache::{Cache, CacheConfig, EmbedError, Embedder, MemoryStore, ModelHash, UnitVector};
use reprise_router::{PolicyKind, Pool, Router, Share};
use reprise_tier::SharedTier;
use serde_json::Value;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt;

use super::scripted::Scripted;
use crate::auth::Keyring;
use crate::config::{Config, Overrides};
use crate::decisions::DecisionLog;
use crate::http;
use crate::metrics::Metrics;
use crate::state::{AppState, Memory, Settling, SharedState};

/// One direction a word, so that texts with common words are near.
#[derive(Debug)]
pub struct Words {
    /// Never answers.
    pub stuck: bool,
}

#[async_trait]
impl Embedder for Words {
    fn model_hash(&self) -> ModelHash {
        ModelHash::new([7; 32])
    }

    fn dimensions(&self) -> usize {
        256
    }

    fn max_tokens(&self) -> usize {
        16
    }

    /// Each word is one, and two marks stand around them.
    fn count_tokens(&self, text: &str) -> Result<usize, EmbedError> {
        Ok(text.split_whitespace().count() + 2)
    }

    async fn embed(&self, text: &str) -> Result<UnitVector, EmbedError> {
        if self.stuck {
            std::future::pending::<()>().await;
        }
        let mut vector = vec![0.0; 256];
        for word in text.split_whitespace() {
            let hash = word.bytes().fold(17_usize, |hash, byte| hash.wrapping_mul(31) ^ usize::from(byte));
            vector[hash % 256] += 1.0;
        }
        Ok(UnitVector::try_new(vector)?)
    }
}

#[derive(Debug)]
pub struct Stage {
    pub state: SharedState,
    app: axum::Router,
    _dir: tempfile::TempDir,
}

impl Stage {
    pub fn new(policy: PolicyKind, tiers: &[&Arc<Scripted>]) -> Self {
        Self::with(policy, tiers, false, |_| ())
    }

    pub fn with(
        policy: PolicyKind,
        tiers: &[&Arc<Scripted>],
        stuck: bool,
        change: impl FnOnce(&mut Config),
    ) -> Self {
        let tiers = tiers.iter().map(|tier| Arc::clone(tier) as SharedTier).collect();
        Self::of(policy, tiers, stuck, change)
    }

    pub fn of(
        policy: PolicyKind,
        tiers: Vec<SharedTier>,
        stuck: bool,
        change: impl FnOnce(&mut Config),
    ) -> Self {
        let mut config = Config::load(None, Overrides::default()).unwrap();
        config.router.policy = policy;
        // Nothing here waits for it but what is stuck.
        config.decision_deadline = std::time::Duration::from_secs(if stuck { 0 } else { 60 });
        let dir = tempfile::tempdir().unwrap();
        config.data_dir = dir.path().to_owned();
        change(&mut config);
        let embedder: Arc<dyn Embedder> = Arc::new(Words { stuck });
        let store = Arc::new(MemoryStore::default());
        let cache = Cache::open(CacheConfig::default(), embedder.model_hash(), embedder.dimensions(), store);
        let memory = Memory { cache: Arc::new(cache.unwrap()), embedder };
        let state = Arc::new(AppState {
            keys: Keyring::new(&config.auth, true, KeyBook::open(&dir.path().join("keys.log")).unwrap())
                .unwrap(),
            desk: Desk::open(LedgerOptions::new(dir.path().join("usage"))).unwrap().0,
            flights: crate::chat::Flights::default(),
            retries: Share::new(config.resilience.retry_share),
            hedges: Share::new(config.resilience.hedge_share),
            pool: Pool::new(tiers, None).unwrap().with_breakers(config.resilience.breaker),
            router: Router::new(config.router.clone()).unwrap(),
            memory: OnceLock::from(memory),
            settling: Settling::settled(),
            decisions: DecisionLog::new(4096),
            responses: crate::responses::ResponseStore::new(dir.path()),
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
        });
        Self { app: http::app(&state), state, _dir: dir }
    }

    pub async fn send(&self, body: &Value, headers: &[(&str, &str)]) -> Response {
        self.send_to("POST", "/v1/chat/completions", body, headers).await
    }

    pub async fn send_to(
        &self,
        method: &str,
        path: &str,
        body: &Value,
        headers: &[(&str, &str)],
    ) -> Response {
        let mut request =
            Request::builder().method(method).uri(path).header("content-type", "application/json");
        if headers.iter().all(|(name, _)| *name != "host") {
            request = request.header("host", "localhost");
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        self.send_raw(request.body(Body::from(body.to_string())).unwrap()).await
    }

    pub async fn send_raw(&self, mut request: Request<Body>) -> Response {
        request.extensions_mut().insert(ConnectInfo(SocketAddr::from(([127, 0, 0, 1], 50_000))));
        self.app.clone().oneshot(request).await.unwrap()
    }

    /// What is learned after an answer has been learned.
    pub async fn settled(&self) {
        self.state.tasks.close();
        self.state.tasks.wait().await;
        self.state.tasks.reopen();
    }
}

pub async fn text(response: Response) -> String {
    let bytes = to_bytes(response.into_body(), usize::MAX).await.unwrap();
    String::from_utf8(bytes.to_vec()).unwrap()
}

pub async fn json(response: Response) -> Value {
    serde_json::from_str(&text(response).await).unwrap()
}
