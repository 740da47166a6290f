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
mod reload;
mod shutdown;
mod tiers;
mod timers;

use std::sync::{Arc, OnceLock};
use std::time::Instant;

use anyhow::Context;
use arc_swap::ArcSwap;
use jiff::Timestamp;
use reprise_accounts::{Desk, KeyBook, LedgerOptions, Opened};
use reprise_router::{Restored, Router, Share};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::auth::Keyring;
use crate::chat::{Flights, ShadowBudget};
use crate::config::Config;
use crate::decisions::DecisionLog;
use crate::http;
use crate::metrics::Metrics;
use crate::process;
use crate::responses::ResponseStore;
use crate::state::{AppState, Settling, SharedState};
use crate::telemetry::Telemetry;

pub use embedder::load as load_embedder;
pub use local::engine_config;
pub use models::{gguf, puller};
pub use reload::Source;

/// Requests that the decision log keeps.
const DECISIONS: usize = 4096;
/// Answers that are learned from at once.
const AFTERWARDS: usize = 64;

/// Serves until a signal ends it. `source`: where the configuration was read, to be read again when it changes.
pub async fn serve(config: Config, source: Option<Source>) -> anyhow::Result<()> {
    shutdown::survive_full_disks()?;
    let data_dir = data_dir::DataDir::take(&config.data_dir)?;
    let listener = TcpListener::bind(config.listen)
        .await
        .with_context(|| format!("cannot listen on {}", config.listen))?;
    let (state, waiting) = state(config)?;
    let app = http::app(&state);
    tracing::info!(address = %listener.local_addr()?, data_dir = %state.data_dir().display(), "listening");
    let open = state.config().auth.keys.is_empty() && state.keys.book().is_empty();
    if open && state.config().listen.ip().is_loopback() {
        tracing::info!("no keys are configured: every program on this machine may use it");
    }
    tokio::spawn(memory::bring_up(state.clone()));
    tokio::spawn(tiers::bring_up(state.clone(), waiting));
    tokio::spawn(tiers::announce(state.clone()));
    if let Some(source) = source {
        tokio::spawn(reload::follow(state.clone(), source));
    }
    timers::start(&state);
    let serving = tokio::spawn(http::serve(listener, app, state.clone()));
    shutdown::signal().await?;
    shutdown::drain(&state, serving).await;
    state.telemetry.close().await;
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
    let book = KeyBook::open(&data_dir::keys(&config.data_dir))?;
    let keys = Keyring::new(&config.auth, config.listen.ip().is_loopback(), book).context("the keys")?;
    let desk = ledger(&config, &metrics)?;
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let settling = if config.cache.enabled { Settling::default() } else { Settling::settled() };
    let state = AppState {
        keys,
        desk,
        pool,
        flights: Flights::default(),
        retries: Share::new(config.resilience.retry_share),
        hedges: Share::new(config.resilience.hedge_share),
        router,
        memory: OnceLock::new(),
        settling,
        decisions: DecisionLog::new(DECISIONS),
        responses: ResponseStore::new(&config.data_dir),
        telemetry: Telemetry::start(config.telemetry.as_ref(), &metrics),
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
        configuration: ArcSwap::from_pointee(config),
    };
    Ok((Arc::new(state), waiting))
}

fn ledger(config: &Config, metrics: &Metrics) -> anyhow::Result<Desk> {
    let options = LedgerOptions {
        file_bytes: config.ledger.file_bytes,
        files: (config.ledger.files > 0).then_some(config.ledger.files),
        sync: config.ledger.sync,
        ..LedgerOptions::new(data_dir::usage(&config.data_dir))
    };
    let (desk, Opened { damage, lost, overtaken }) = Desk::open(options)?;
    if damage.lines > 0 {
        metrics.ledger_damaged.inc_by(damage.lines as u64);
        tracing::error!(
            lines = damage.lines,
            "the ledger is damaged: what stood in these lines is not counted"
        );
    }
    if lost > 0 {
        tracing::warn!(
            requests = lost,
            "requests were cut off by a crash: all that they had reserved counts as used"
        );
    }
    if overtaken > 0 {
        tracing::warn!(
            payers = overtaken,
            "the machine ended at work: what the ledger held ahead of use counts as used"
        );
    }
    Ok(desk)
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
