//! Bringing the gateway up and down.
//!
//! It listens at once and answers health checks; models are fetched and loaded behind that, the cheapest first.

pub mod data_dir;
mod deferred;
mod embedder;
mod local;
mod memory;
mod models;
mod probe;
mod shutdown;
mod tiers;
mod timers;

use std::sync::{Arc, OnceLock};
use std::time::Instant;

use anyhow::Context;
use jiff::Timestamp;
use reprise_router::{Restored, Router};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::auth::Keyring;
use crate::chat::ShadowBudget;
use crate::config::Config;
use crate::decisions::DecisionLog;
use crate::http;
use crate::metrics::Metrics;
use crate::process;
use crate::responses::ResponseStore;
use crate::state::{AppState, Settling, SharedState};

pub use embedder::load as load_embedder;
pub use local::engine_config;
pub use models::{gguf, puller};

/// Requests that the decision log keeps.
const DECISIONS: usize = 4096;
/// Answers that are learned from at once.
const AFTERWARDS: usize = 64;

/// Serves until a signal ends it.
pub async fn serve(config: Config) -> anyhow::Result<()> {
    shutdown::survive_full_disks()?;
    let data_dir = data_dir::DataDir::take(&config.data_dir)?;
    let listener = TcpListener::bind(config.listen)
        .await
        .with_context(|| format!("cannot listen on {}", config.listen))?;
    let (state, waiting) = state(config)?;
    let app = http::app(&state);
    tracing::info!(address = %listener.local_addr()?, data_dir = %state.data_dir().display(), "listening");
    if state.config.auth.keys.is_empty() && state.config.listen.ip().is_loopback() {
        tracing::info!("no keys are configured: every program on this machine may use it");
    }
    tokio::spawn(memory::bring_up(state.clone()));
    tokio::spawn(tiers::bring_up(state.clone(), waiting));
    tokio::spawn(tiers::announce(state.clone()));
    timers::start(&state);
    let serving = tokio::spawn(http::serve(listener, app, state.clone()));
    shutdown::signal().await?;
    shutdown::drain(&state, serving).await;
    drop(data_dir);
    Ok(())
}

fn state(config: Config) -> anyhow::Result<(SharedState, Vec<tiers::Waiting>)> {
    let metrics = Metrics::new().context("the metrics")?;
    let (pool, waiting) = tiers::pool(&config)?;
    let names: Vec<&str> = pool.iter().map(|tier| tier.info().name.as_str()).collect();
    metrics.begin(env!("CARGO_PKG_VERSION"), &names);
    metrics.process_start.set(process::start_seconds().unwrap_or_default());
    let snapshot = data_dir::router_snapshot(&config.data_dir);
    let (router, restored) = Router::restore(config.router.clone(), &snapshot).context("the router")?;
    report(&restored);
    let keys = Keyring::new(&config.auth, config.listen.ip().is_loopback()).context("the keys")?;
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let settling = if config.cache.enabled { Settling::default() } else { Settling::settled() };
    let state = AppState {
        keys,
        pool,
        router,
        memory: OnceLock::new(),
        settling,
        decisions: DecisionLog::new(DECISIONS),
        responses: ResponseStore::new(&config.data_dir),
        metrics,
        slots: Arc::new(Semaphore::new(config.server.max_concurrent_requests)),
        searches: Arc::new(Semaphore::new(2 * cores)),
        afterwards: Arc::new(Semaphore::new(AFTERWARDS)),
        shadow: ShadowBudget::new(config.shadow_tokens_per_hour, Instant::now()),
        tasks: TaskTracker::new(),
        shutdown: CancellationToken::new(),
        abort: CancellationToken::new(),
        started: Instant::now(),
        started_at: Timestamp::now(),
        config,
    };
    Ok((Arc::new(state), waiting))
}

fn report(restored: &Restored) {
    match restored {
        Restored::Warm { arms, updates } => {
            tracing::info!(arms, updates, "the router knows what it learned before");
        }
        Restored::Cold => {}
        Restored::Outdated { reason } => {
            tracing::warn!(reason, "what the router learned is outdated; it starts cold");
        }
        Restored::Damaged { reason, moved_to } => {
            tracing::warn!(reason, ?moved_to, "what the router learned is damaged; it starts cold");
        }
    }
}
