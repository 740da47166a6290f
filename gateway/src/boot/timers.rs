//! What is done every so often, on blocking threads.

use std::time::{Duration, Instant};

use tokio::task::spawn_blocking;

use super::data_dir;
use crate::config::seconds_of;
use crate::state::{AppState, SharedState, now_ms};

const SNAPSHOT: Duration = Duration::from_secs(30);
/// The load average falls only when it is looked at.
const LOAD: Duration = Duration::from_secs(1);

/// Starts all timers; they end when shutdown begins.
pub fn start(state: &SharedState) {
    let config = state.config();
    let cache = &config.cache;
    every(state, seconds_of(cache.flush_interval_s), flush);
    every(state, seconds_of(cache.maintenance_interval_s), maintain);
    every(state, SNAPSHOT, save_router);
    every(state, LOAD, |state| {
        state.router.observe_load(&state.pool.arms(), Instant::now());
    });
}

/// Hands what was written to the system. Blocks on the disk.
pub fn flush(state: &AppState) {
    let Some(cache) = state.cache() else { return };
    if let Err(error) = cache.flush() {
        tracing::warn!(%error, "the store was not flushed");
    }
    match cache.size_on_disk() {
        Ok(bytes) => state.metrics.store_bytes.set(i64::try_from(bytes).unwrap_or(i64::MAX)),
        Err(error) => tracing::debug!(%error, "the store's size is not known"),
    }
}

/// Blocks on the disk.
pub fn save_router(state: &AppState) {
    if let Err(error) = state.router.save(&data_dir::router_snapshot(&state.data_dir())) {
        tracing::warn!(
            error = format!("{:#}", anyhow::Error::from(error)),
            "what the router learned was not saved"
        );
    }
}

fn maintain(state: &AppState) {
    let Some(cache) = state.cache() else { return };
    match cache.maintain(now_ms()) {
        Ok(done) => {
            state.metrics.cache_evictions.inc_by((done.evicted_examples + done.evicted_answers) as u64);
            if done.evicted_examples + done.evicted_answers + done.rebuilt > 0 {
                tracing::info!(?done, "the cache was tidied");
            }
        }
        Err(error) => tracing::warn!(%error, "the cache was not tidied"),
    }
}

/// One run at a time: a run that takes long puts the next one off.
fn every(state: &SharedState, period: Duration, work: fn(&AppState)) {
    let state = state.clone();
    tokio::spawn(async move {
        loop {
            tokio::select! {
                () = state.shutdown.cancelled() => return,
                () = tokio::time::sleep(period) => {}
            }
            let state = state.clone();
            if spawn_blocking(move || work(&state)).await.is_err() {
                tracing::error!("a timer's work ended in a panic");
            }
        }
    });
}
