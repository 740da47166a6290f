//! What was learned, on disk.
//!
//! One JSON file: `{"version", "features", "crc32", "state"}`; `crc32` is over the text of `state`. It is written beside
//! its place, synced, renamed over it, and the folder is synced: after a power failure the file is the old one or the
//! new one. A file that does not read back is renamed to `<path>.damaged-<unix seconds>` and kept for a look; a
//! snapshot of another feature version is dropped, since its weights would mean something else.

use std::{
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
    time::SystemTime,
};

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use thiserror::Error;

use crate::{bandit::BanditState, features, guard::GuardState, policies::WinModelState};

const VERSION: u32 = 1;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Snapshot {
    pub bandit: BanditState,
    pub wins: WinModelState,
    #[serde(default)]
    pub guard: GuardState,
}

/// How a router started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Restored {
    /// With what was learned before.
    Warm { arms: usize, updates: u64 },
    /// There was no snapshot.
    Cold,
    /// The snapshot is of a version that means something else; it stays where it is until the next save.
    Outdated { reason: String },
    /// The snapshot could not be read. `moved_to` is where it lies now, if renaming it worked.
    Damaged { reason: String, moved_to: Option<PathBuf> },
}

/// The snapshot could not be written.
#[derive(Debug, Error)]
pub enum SnapshotError {
    #[error("cannot {action} {}", path.display())]
    Io { action: &'static str, path: PathBuf, source: io::Error },
    #[error("cannot encode the router's state")]
    Encode(#[from] serde_json::Error),
}

#[derive(Serialize, Deserialize)]
struct Envelope {
    version: u32,
    features: u32,
    crc32: u32,
    state: Box<RawValue>,
}

pub fn save(path: &Path, snapshot: &Snapshot) -> Result<(), SnapshotError> {
    let state = serde_json::value::to_raw_value(snapshot)?;
    let crc32 = crc32fast::hash(state.get().as_bytes());
    let text = serde_json::to_vec(&Envelope { version: VERSION, features: features::VERSION, crc32, state })?;
    let temporary = sibling(path, "tmp");
    let io = |action, path: &Path| {
        let path = path.to_owned();
        move |source| SnapshotError::Io { action, path, source }
    };
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    fs::create_dir_all(folder).map_err(io("create", folder))?;
    let mut file = File::create(&temporary).map_err(io("create", &temporary))?;
    file.write_all(&text).map_err(io("write", &temporary))?;
    file.sync_all().map_err(io("sync", &temporary))?;
    drop(file);
    fs::rename(&temporary, path).map_err(io("replace", path))?;
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(io("sync", folder))
}

pub fn load(path: &Path) -> (Option<Snapshot>, Restored) {
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return (None, Restored::Cold),
        Err(error) => return (None, set_aside(path, error.to_string())),
    };
    match decode(&text) {
        Ok(snapshot) => {
            let restored =
                Restored::Warm { arms: snapshot.bandit.arms.len(), updates: snapshot.bandit.updates };
            (Some(snapshot), restored)
        }
        Err(Unusable::Outdated(reason)) => (None, Restored::Outdated { reason }),
        Err(Unusable::Damaged(reason)) => (None, set_aside(path, reason)),
    }
}

enum Unusable {
    Outdated(String),
    Damaged(String),
}

fn decode(text: &str) -> Result<Snapshot, Unusable> {
    let damaged = |error: serde_json::Error| Unusable::Damaged(error.to_string());
    let envelope: Envelope = serde_json::from_str(text).map_err(damaged)?;
    if crc32fast::hash(envelope.state.get().as_bytes()) != envelope.crc32 {
        return Err(Unusable::Damaged("the checksum does not match".to_owned()));
    }
    if (envelope.version, envelope.features) != (VERSION, features::VERSION) {
        return Err(Unusable::Outdated(format!(
            "version {} with features {}, expected {VERSION} with {}",
            envelope.version,
            envelope.features,
            features::VERSION
        )));
    }
    serde_json::from_str(envelope.state.get()).map_err(damaged)
}

fn set_aside(path: &Path, reason: String) -> Restored {
    let seconds = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |age| age.as_secs());
    let aside = sibling(path, &format!("damaged-{seconds}"));
    let moved_to = fs::rename(path, &aside).is_ok().then_some(aside);
    Restored::Damaged { reason, moved_to }
}

fn sibling(path: &Path, extension: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".");
    name.push(extension);
    PathBuf::from(name)
}
