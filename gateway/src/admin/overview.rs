//! `GET /admin/v1/state`: everything that the console's overview shows, in one call.

use std::time::Instant;

use axum::Json;
use axum::extract::State;
use jiff::Timestamp;
use reprise_cache::{CacheStats, TenantId};
use schemars::JsonSchema;
use serde::Serialize;

use super::counts::Counts;
use super::decisions::{self, Summary};
use super::lease::Holder;
use super::pool::{self, PoolReport};
use super::quantiles::Latency;
use super::router::{self, Report};
use super::{Admin, AdminError};

/// Requests that the quantiles are of.
const WINDOW: usize = 1000;
const RECENT: usize = 20;

#[derive(Debug, Serialize, JsonSchema)]
pub struct Overview {
    version: &'static str,
    started_at: Timestamp,
    uptime_s: u64,
    /// Whether callers need the admin key.
    admin_key: bool,
    /// Those with something in the cache.
    tenants: Vec<TenantId>,
    requests: Counts,
    latency: Latency,
    /// `None`: switched off, or not up yet.
    cache: Option<CacheStats>,
    pool: PoolReport,
    router: Report,
    /// Who holds the replay lease.
    replay: Option<Holder>,
    recent: Vec<Summary>,
}

pub async fn show(State(admin): State<Admin>) -> Result<Json<Overview>, AdminError> {
    admin.blocking(|admin| Json(overview(admin))).await
}

fn overview(admin: &Admin) -> Overview {
    let app = admin.app();
    let records = app.decisions.newest(WINDOW);
    let cache = app.cache();
    Overview {
        version: env!("CARGO_PKG_VERSION"),
        started_at: app.started_at,
        uptime_s: app.started.elapsed().as_secs(),
        admin_key: app.config().auth.admin_key.is_some(),
        tenants: cache.map(|cache| cache.tenants()).unwrap_or_default(),
        requests: Counts::of(&app.metrics),
        latency: Latency::of(records.iter().map(|record| &**record)),
        cache: cache.map(|cache| cache.stats()),
        pool: pool::report(&app.pool, &app.router),
        router: router::report(&app.router),
        replay: admin.lease().current(Instant::now()),
        recent: decisions::newest(admin, RECENT),
    }
}
