//! The embedder of the configuration, fetched and loaded.

use std::sync::Arc;

use reprise_cache::Embedder;
use reprise_models::Puller;

use crate::config::EmbedderSection;

pub async fn load(puller: &Puller, config: &EmbedderSection) -> anyhow::Result<Arc<dyn Embedder>> {
    let folder = puller.pull(&config.model).await?;
    anyhow::bail!("the embedder is not wired in yet: {}", folder.display())
}
