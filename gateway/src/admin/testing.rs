//! An admin interface over a gateway in memory ([`crate::testing`]) with a tier that does nothing.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::body::{Body, to_bytes};
use axum::extract::ConnectInfo;
use axum::response::Response;
use http::header::{AUTHORIZATION, CONTENT_TYPE, HOST};
use http::{Method, Request, StatusCode};
use jiff::Timestamp;
use reprise_router::Pool;
use reprise_tier::{GenerateRequest, Generation, Pressure, SharedTier, Tier, TierError, TierInfo, TierState};
use serde_json::Value;
use tempfile::TempDir;
use tower::ServiceExt;

use crate::config::{Config, Overrides};
use crate::decisions::{CacheStatus, DecisionRecord, Timings};
use crate::state::SharedState;
use crate::testing::{self, Words};

pub const LOCAL: &str = "127.0.0.1:50000";

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
        let info = TierInfo {
            name: "small".into(),
            model: "m".into(),
            context_length: 512,
            cost: 0.5,
            remote: false,
        };
        let tier: SharedTier = Arc::new(Idle(info));
        let words = Words { dimensions: 512, max_tokens: 256, stuck: false };
        let app = testing::state(config, Pool::new(vec![tier], None).unwrap(), words, 8);
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
