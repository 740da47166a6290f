use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context;
use reprise_models::{ConsoleProgress, Manifest, Puller, default_folder};

/// Fetches the models of the manifest into the default folder, telling of it on standard error.
pub fn puller() -> anyhow::Result<Puller> {
    let manifest = Manifest::embedded().context("the model manifest")?;
    Ok(Puller::new(Arc::new(manifest), default_folder(), Arc::new(ConsoleProgress::default())))
}

/// The GGUF file of a model, fetched if it is not there.
pub async fn gguf(puller: &Puller, model: &str) -> anyhow::Result<PathBuf> {
    let folder = puller.pull(model).await?;
    let files = puller.manifest().get(model).map(|model| model.files.as_slice()).unwrap_or_default();
    let gguf = files.iter().find(|file| file.name.ends_with(".gguf"));
    let gguf = gguf.with_context(|| format!("the model {model} has no GGUF file"))?;
    Ok(folder.join(&gguf.name))
}
