//! An admin interface over a real cache, router and pool in memory; only the embedder and the tier are made up.

use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use arc_swap::ArcSwap;
use async_trait::async_trait;
use axum::body::{Body, to_bytes};
use axum::extract::ConnectInfo;
use axum::response::Response;
use http::header::{AUTHORIZATION, CONTENT_TYPE, HOST};
use http::{Method, Request, StatusCode};
use jiff::Timestamp;
use reprise_accounts::{Desk, KeyBook, LedgerOptions};
use reprise_cache::{Cache, CacheConfig, EmbedError, Embedder, MemoryStore, ModelHash, UnitVector};
use reprise_router::{Pool, Router, Share};
use reprise_tier::{GenerateRequest, Generation, Pressure, SharedTier, Tier, TierError, TierInfo, TierState};
use serde_json::Value;
use tempfile::TempDir;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt;

use crate::auth::Keyring;
use crate::config::{Config, Overrides};
use crate::decisions::{CacheStatus, DecisionLog, DecisionRecord, Timings};
use crate::metrics::Metrics;
use crate::state::{AppState, Memory, Settling, SharedState};

pub const LOCAL: &str = "127.0.0.1:50000";

/// One direction a word: the same text lies in the same place, another nowhere near.
#[derive(Debug)]
struct Words;

#[async_trait]
impl Embedder for Words {
    fn model_hash(&self) -> ModelHash {
        ModelHash::new([7; 32])
    }

    fn dimensions(&self) -> usize {
        512
    }

    fn max_tokens(&self) -> usize {
        256
    }

    fn count_tokens(&self, text: &str) -> Result<usize, EmbedError> {
        Ok(text.split_whitespace().count() + 2)
    }

    async fn embed(&self, text: &str) -> Result<UnitVector, EmbedError> {
        let mut vector = vec![0.0; 512];
        for word in text.split_whitespace() {
            let hash = word.bytes().fold(17usize, |hash, byte| hash.wrapping_mul(31) ^ usize::from(byte));
            vector[hash % 512] += 1.0;
        }
        Ok(UnitVector::try_new(vector)?)
    }
}

#[derive(Debug)]
struct Idle(TierInfo);

impl Tier for Idle {
    fn info(&self) -> &TierInfo {
        &self.0
    }

    fn state(&self) -> TierState {
        TierState::Failed { reason: "made up".into() }
    }

    fn submit(&self, _: GenerateRequest) -> Result<Generation, TierError> {
        Err(TierError::ShuttingDown)
    }

    fn pressure(&self) -> Pressure {
        Pressure { queue_capacity: 8, ..Pressure::default() }
    }

    fn block_tokens(&self, _: &str, _: &str) -> u32 {
        1
    }
}

#[derive(Debug)]
pub struct Fixture {
    pub app: SharedState,
    pub dir: TempDir,
    routes: axum::Router,
}

impl Fixture {
    pub fn new(admin_key: Option<&str>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let overrides = Overrides { data_dir: Some(dir.path().to_owned()), ..Overrides::default() };
        let mut config = Config::load(None, overrides).unwrap();
        config.auth.admin_key = admin_key.map(Into::into);
        let embedder: Arc<dyn Embedder> = Arc::new(Words);
        let store = Arc::new(MemoryStore::default());
        let cache = Cache::open(CacheConfig::default(), embedder.model_hash(), embedder.dimensions(), store);
        let memory = Memory { cache: Arc::new(cache.unwrap()), embedder };
        let info = TierInfo {
            name: "small".into(),
            model: "m".into(),
            context_length: 512,
            cost: 0.5,
            remote: false,
        };
        let tier: SharedTier = Arc::new(Idle(info));
        let app = Arc::new(AppState {
            keys: Keyring::new(&config.auth, true, KeyBook::open(&dir.path().join("keys.log")).unwrap())
                .unwrap(),
            desk: Desk::open(LedgerOptions::new(dir.path().join("usage"))).unwrap().0,
            flights: crate::chat::Flights::default(),
            retries: Share::new(config.resilience.retry_share),
            hedges: Share::new(config.resilience.hedge_share),
            pool: Pool::new(vec![tier], None).unwrap(),
            router: Router::new(config.router.clone()).unwrap(),
            memory: OnceLock::from(memory),
            settling: Settling::settled(),
            decisions: DecisionLog::new(8),
            responses: crate::responses::ResponseStore::new(&config.data_dir),
            telemetry: crate::telemetry::Telemetry::default(),
            metrics: Metrics::new().unwrap(),
            slots: Arc::new(Semaphore::new(1)),
            searches: Arc::new(Semaphore::new(1)),
            afterwards: Arc::new(Semaphore::new(1)),
            shadow: crate::chat::ShadowBudget::new(0, Instant::now()),
            tasks: TaskTracker::new(),
            shutdown: CancellationToken::new(),
            abort: CancellationToken::new(),
            started: Instant::now(),
            started_at: Timestamp::now(),
            configuration: ArcSwap::from_pointee(config),
        });
        Self { routes: super::router(&app), app, dir }
    }

    /// Sends it with these headers from this peer, under a loopback name.
    pub async fn raw(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        peer: &str,
        body: Option<Value>,
    ) -> Response {
        let mut request = Request::builder().method(method).uri(format!("/admin/v1{path}"));
        request = request.header(CONTENT_TYPE, "application/json");
        if !headers.iter().any(|(name, _)| *name == "host") {
            request = request.header(HOST, "localhost:8080");
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let body = body.map_or_else(Body::empty, |body| Body::from(body.to_string()));
        let mut request = request.body(body).unwrap();
        request.extensions_mut().insert(ConnectInfo(peer.parse::<SocketAddr>().unwrap()));
        self.routes.clone().oneshot(request).await.unwrap()
    }

    /// A well-behaved local call.
    pub async fn call(&self, method: Method, path: &str, body: Option<Value>) -> (StatusCode, Value) {
        let response = self.raw(method, path, &[], LOCAL, body).await;
        (response.status(), json(response).await)
    }

    pub async fn status_with(&self, key: Option<&str>, peer: &str) -> StatusCode {
        let value = key.map(|key| format!("Bearer {key}"));
        let headers: Vec<(&str, &str)> =
            value.iter().map(|value| (AUTHORIZATION.as_str(), value.as_str())).collect();
        self.raw(Method::GET, "/state", &headers, peer, None).await.status()
    }

    pub fn audit(&self) -> Vec<Value> {
        let text = std::fs::read_to_string(self.dir.path().join("admin-audit.jsonl")).unwrap_or_default();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

/// A request that missed and took this long.
pub fn record(request_id: &str, total_ms: f64) -> DecisionRecord {
    DecisionRecord {
        request_id: request_id.into(),
        created: Timestamp::UNIX_EPOCH,
        tenant: "t".parse().unwrap(),
        tier: Some("small".into()),
        arm: None,
        model: None,
        cache: CacheStatus::Miss,
        status: 200,
        error: None,
        examples: Vec::new(),
        similarity: None,
        decision: None,
        straight: false,
        timings: Timings { total_ms, ..Timings::default() },
        usage: None,
        finish_reason: None,
        rating: None,
        embedding: None,
        request_bytes: 0,
        admitted: None,
    }
}

pub async fn json(response: Response) -> Value {
    serde_json::from_slice(&to_bytes(response.into_body(), 1 << 20).await.unwrap()).unwrap()
}
