//! `/livez`: the process answers. `/readyz`: a tier does.

use axum::Json;
use axum::extract::State;
use http::StatusCode;
use reprise_tier::TierState;
use schemars::JsonSchema;
use serde::Serialize;

use crate::state::SharedState;

#[derive(Debug, Serialize, JsonSchema)]
pub struct Readiness {
    ready: bool,
    tiers: Vec<TierReadiness>,
    /// `loading`, `ready`, `failed` or `off`; requests are answered without it.
    cache: &'static str,
}

#[derive(Debug, Serialize, JsonSchema)]
struct TierReadiness {
    name: String,
    model: String,
    #[serde(flatten)]
    state: TierState,
}

pub async fn livez() -> &'static str {
    "ok\n"
}

/// 200 once a tier is ready and the cache has come up or failed to, until shutdown begins.
pub async fn readyz(State(state): State<SharedState>) -> (StatusCode, Json<Readiness>) {
    let ready = state.is_ready();
    let tiers = state.pool.iter().map(|tier| {
        let info = tier.info();
        TierReadiness { name: info.name.clone(), model: info.model.clone(), state: tier.state() }
    });
    let cache = match state.memory() {
        _ if !state.config().cache.enabled => "off",
        Some(_) => "ready",
        None if state.settling.is_settled() => "failed",
        None => "loading",
    };
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(Readiness { ready, tiers: tiers.collect(), cache }))
}
