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

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::{Presence, Silent};

    /// A llama model of one layer, 32 wide, without anything but its feed-forward.
    fn dense() -> Vec<u8> {
        let name = |text: &str| [&(text.len() as u64).to_le_bytes(), text.as_bytes()].concat();
        let number =
            |key: &str, value: u32| [name(key), [4_u32, value].map(u32::to_le_bytes).concat()].concat();
        let mut file =
            [b"GGUF".as_slice(), &3_u32.to_le_bytes(), &3_u64.to_le_bytes(), &3_u64.to_le_bytes()].concat();
        file.extend([name("general.architecture"), 8_u32.to_le_bytes().to_vec(), name("llama")].concat());
        file.extend([number("llama.block_count", 1), number("llama.embedding_length", 32)].concat());
        for (at, matrix) in ["gate", "up", "down"].into_iter().enumerate() {
            file.extend(name(&format!("blk.0.ffn_{matrix}.weight")));
            file.extend(2_u32.to_le_bytes());
            file.extend([32_u64, 32].map(u64::to_le_bytes).concat());
            file.extend(0_u32.to_le_bytes());
            file.extend((at as u64 * 4096).to_le_bytes());
        }
        file.resize(file.len().next_multiple_of(32), 0);
        file.extend((0..3 * 4096).map(|at| (at % 251) as u8));
        file
    }

    #[tokio::test]
    async fn a_pull_makes_the_copy_and_verifies_it() {
        let folder = tempfile::tempdir().unwrap();
        let (from, copy) = (folder.path().join("dense.gguf"), folder.path().join("copy.gguf"));
        fs::write(&from, dense()).unwrap();
        let options = Upcycle { layers: Layers::All, experts: 4, top_k: 2, seed: 3 };
        let made = upcycle(&from, &copy, &options, &mut |_, _| {}).unwrap();
        let model = |name: &str, file: &str, bytes: u64, sha256: &str, source: &str| {
            format!(
                "[[models]]\nname = \"{name}\"\nkind = \"chat\"\nlicence = \"MIT\"\nsources = [{{ {source} }}]\n\
                 files = [{{ name = \"{file}\", bytes = {bytes}, sha256 = \"{sha256}\" }}]\n"
            )
        };
        let (bytes, sha256) = (fs::metadata(&from).unwrap().len(), crate::verify::sha256(&from).unwrap());
        let local = format!("local = \"{}\"", folder.path().display());
        let how = |seed| {
            format!(
                "upcycle = {{ from = \"dense\", layers = \"all\", experts = 4, top_k = 2, seed = {seed} }}"
            )
        };
        let text = model("dense", "dense.gguf", bytes, &sha256, &local)
            + &model("moe", "moe.gguf", made.bytes, &made.sha256, &how(3))
            + &model("other", "other.gguf", made.bytes, &made.sha256, &how(4));
        let manifest = Arc::new(Manifest::parse(&text).unwrap());
        let models = folder.path().join("models");
        let puller = Puller::new(Arc::clone(&manifest), models.clone(), Arc::new(Silent));
        puller.pull("moe").await.unwrap();
        assert_eq!(puller.presence(manifest.get("moe").unwrap()), Presence::Complete);
        assert_eq!(puller.presence(manifest.get("dense").unwrap()), Presence::Complete);
        assert_eq!(fs::read(models.join("moe/moe.gguf")).unwrap(), fs::read(copy).unwrap());
        // Another gate is another file than the manifest means.
        let error = puller.pull("other").await.unwrap_err().to_string();
        assert!(error.contains("upcycling dense") && error.contains("sha256"), "{error}");
        assert!(!models.join("other/other.gguf").exists());
    }
}
