//! The embedder of the configuration, fetched and loaded.

use std::sync::Arc;

use anyhow::Context;
use reprise_cache::Embedder;
use reprise_embedder::{EmbedderConfig, MiniLm};
use reprise_models::Puller;
use tokio::task::spawn_blocking;

use crate::config::EmbedderSection;

pub async fn load(puller: &Puller, section: &EmbedderSection) -> anyhow::Result<Arc<dyn Embedder>> {
    let folder = puller.pull(&section.model).await?;
    let config = EmbedderConfig {
        threads: section.threads,
        queue_capacity: section.queue,
        ..EmbedderConfig::default()
    };
    let loaded = spawn_blocking(move || MiniLm::load(&folder, &config)).await.context("loading it died")?;
    Ok(Arc::new(loaded?))
}
