//! The cache: embedder, store, index. Requests are answered before it is there, and without it if it does not come up.

use std::sync::Arc;

use anyhow::Context;
use reprise_cache::{Cache, CacheConfig, Embedder, Recovery, open_or_recover};
use tokio::task::spawn_blocking;

use super::{data_dir, embedder, models, probe};
use crate::config::CacheSection;
use crate::state::{AppState, Memory, SharedState};

pub async fn bring_up(state: SharedState) {
    if !state.config().cache.enabled {
        return;
    }
    match load(&state).await {
        Ok(memory) => {
            let stats = memory.cache.stats();
            tracing::info!(
                examples = stats.examples,
                answers = stats.answers,
                tenants = stats.tenants,
                "the cache is up"
            );
            if state.memory.set(memory).is_err() {
                tracing::error!("the cache was brought up twice");
            }
        }
        Err(error) => tracing::error!(error = format!("{error:#}"), "answering without the cache"),
    }
    state.settling.settle();
}

async fn load(state: &SharedState) -> anyhow::Result<Memory> {
    let embedder =
        embedder::load(&models::puller()?, &state.config().embedder).await.context("the embedder")?;
    let (state, with) = (state.clone(), Arc::clone(&embedder));
    let cache =
        spawn_blocking(move || open(&state, with.as_ref())).await.context("opening the store died")??;
    Ok(Memory { cache: Arc::new(cache), embedder })
}

/// Blocks on the disk, and up to the probe's deadline.
fn open(state: &AppState, embedder: &dyn Embedder) -> anyhow::Result<Cache> {
    let folder = data_dir::store(&state.data_dir());
    let (store, recovery) = open_or_recover(&folder, &probe::probe)?;
    match &recovery {
        Recovery::Clean => {}
        Recovery::WithoutSnapshot => {
            state.metrics.store_recoveries.inc();
            tracing::warn!("the store's snapshot was damaged and is set aside; nothing flushed is lost");
        }
        Recovery::LostWrites { lost } => {
            state.metrics.store_recoveries.inc();
            tracing::warn!(lost, "the end of the store's log was damaged and is cut off");
        }
        Recovery::StartedCold { moved_to, reason } => {
            state.metrics.store_recoveries.inc();
            let moved_to = moved_to.display();
            tracing::warn!(reason, %moved_to, "the store was damaged and is set aside; the cache starts cold");
        }
    }
    let config = cache_config(&state.config().cache);
    Ok(Cache::open(config, embedder.model_hash(), embedder.dimensions(), Arc::new(store))?)
}

pub fn cache_config(section: &CacheSection) -> CacheConfig {
    CacheConfig {
        byte_budget: section.byte_budget,
        similarity_floor: section.similarity_floor,
        ..CacheConfig::default()
    }
}
