//! A gateway in memory ([`crate::testing`]), and requests to it.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::body::{Body, to_bytes};
use axum::extract::ConnectInfo;
use axum::http::Request;
use axum::response::Response;
use reprise_router::{PolicyKind, Pool};
use reprise_tier::SharedTier;
use serde_json::Value;
use tower::ServiceExt;

use super::scripted::Scripted;
use crate::config::{Config, Overrides};
use crate::http;
use crate::state::SharedState;
use crate::testing::{self, Words};

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
        let pool = Pool::new(tiers, None).unwrap().with_breakers(config.resilience.breaker);
        let state = testing::state(config, pool, Words { dimensions: 256, max_tokens: 16, stuck }, 4096);
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
