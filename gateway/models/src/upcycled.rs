//! A file that is made here, out of another model's: a mixture-of-experts copy (see `reprise_upcycle`).

use std::{
    future::Future,
    path::{Path, PathBuf},
    pin::Pin,
    sync::Arc,
};

use reprise_upcycle::{Layers, Upcycle, upcycle};
use serde::Deserialize;
use tokio::{fs, task::spawn_blocking};

use crate::{FileSpec, Manifest, Model, Progress, PullError, Puller, Source};

/// How the file is made. The same values give the same bytes, so the manifest's hash holds for it as for any other.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Upcycled {
    /// A model of the manifest with a dense GGUF file.
    pub from: String,
    /// See [`Layers`].
    pub layers: String,
    pub experts: u16,
    pub top_k: u16,
    #[serde(default)]
    pub seed: u64,
}

impl Upcycled {
    fn options(&self) -> Result<Upcycle, String> {
        let layers: Layers = self.layers.parse().map_err(|error| format!("upcycle.layers: {error}"))?;
        Ok(Upcycle { layers, experts: self.experts, top_k: self.top_k, seed: self.seed })
    }

    /// Without looking at any file.
    pub(crate) fn validate(&self, manifest: &Manifest) -> Result<(), String> {
        self.options()?;
        let from = manifest.get(&self.from);
        let from = from.ok_or_else(|| format!("upcycle.from: no model is named \"{}\"", self.from))?;
        if from.sources.iter().any(|source| matches!(source, Source::Upcycle(_))) {
            return Err(format!("upcycle.from: \"{}\" is upcycled itself", self.from));
        }
        gguf(from).map(|_| ())
    }
}

fn gguf(model: &Model) -> Result<&FileSpec, String> {
    let file = model.files.iter().find(|file| file.name.ends_with(".gguf"));
    file.ok_or_else(|| format!("the model \"{}\" has no GGUF file", model.name))
}

/// Boxed, as a pull of the copy is a pull of its source as well.
type Pulling<'a> = Pin<Box<dyn Future<Output = Result<PathBuf, PullError>> + Send + 'a>>;

fn pull<'a>(puller: &'a Puller, name: &'a str) -> Pulling<'a> {
    Box::pin(puller.pull(name))
}

/// Pulls the dense model and writes its copy into `scratch`.
pub(crate) async fn make(
    puller: &Puller,
    how: &Upcycled,
    file: &FileSpec,
    scratch: &Path,
    progress: &Arc<dyn Progress>,
) -> Result<PathBuf, String> {
    let from =
        puller.manifest().get(&how.from).ok_or_else(|| format!("no model is named \"{}\"", how.from))?;
    let dense = gguf(from)?.name.clone();
    let dense = pull(puller, &how.from).await.map_err(|error| error.to_string())?.join(dense);
    fs::create_dir_all(scratch).await.map_err(|error| format!("{}: {error}", scratch.display()))?;
    let (target, options, telling) = (scratch.join(&file.name), how.options()?, Arc::clone(progress));
    progress.begin(&file.name, 0, file.bytes);
    let made = spawn_blocking(move || {
        upcycle(&dense, &target, &options, &mut |bytes, _| telling.advance(bytes)).map(|_| target)
    });
    let made = made.await;
    progress.end();
    made.map_err(|error| error.to_string())?.map_err(|error| error.to_string())
}
