//! Responses that clients may come back to: one file each, in a folder of their tenant's, so that no call can reach
//! another's. Not the cache: what is here is kept because the API says that it is, until it is deleted or 30 days old.

use std::collections::HashMap;
use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::{Duration, SystemTime};

use parking_lot::Mutex;
use reprise_cache::TenantId;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};
use tokio_util::task::TaskTracker;

const KEPT: Duration = Duration::from_secs(30 * 24 * 3600);
/// Of one tenant; above it the oldest go.
const MOST: usize = 10_000;
/// A tenant's folder is looked through once in so many writes.
const SWEEP: u32 = 256;

/// A response, and the items that it answers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Record {
    pub response: Value,
    pub input: Vec<Value>,
}

#[derive(Debug)]
pub struct ResponseStore(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    folder: PathBuf,
    /// Not on disk yet. Held while a file gets its name or loses it, so that what is deleted is gone when `delete` returns.
    pending: Mutex<HashMap<PathBuf, Arc<Record>>>,
    writes: AtomicU32,
}

/// One tenant's.
#[derive(Debug, Clone)]
pub struct TenantResponses {
    shared: Arc<Shared>,
    folder: PathBuf,
}

impl ResponseStore {
    #[must_use]
    pub fn new(data_dir: &Path) -> Self {
        let folder = data_dir.join("responses");
        Self(Arc::new(Shared { folder, pending: Mutex::default(), writes: AtomicU32::new(0) }))
    }

    /// A tenant's name may be `..`: the folder is named by its hash.
    #[must_use]
    pub fn tenant(&self, tenant: &TenantId) -> TenantResponses {
        let digest = Sha256::digest(tenant.as_str());
        let name: String = digest.iter().take(16).map(|byte| format!("{byte:02x}")).collect();
        TenantResponses { shared: Arc::clone(&self.0), folder: self.0.folder.join(name) }
    }
}

impl TenantResponses {
    /// It can be found from now on; its file is written by `tasks`.
    pub fn put(&self, id: &str, record: Record, tasks: &TaskTracker) {
        let Some(path) = self.path(id) else { return };
        let record = Arc::new(record);
        self.shared.pending.lock().insert(path.clone(), Arc::clone(&record));
        let stored = self.clone();
        tasks.spawn_blocking(move || {
            let written = write(&path, &record).and_then(|unfinished| {
                let mut pending = stored.shared.pending.lock();
                match pending.remove(&path) {
                    Some(_) => fs::rename(unfinished, &path),
                    // Deleted while it was written.
                    None => fs::remove_file(unfinished),
                }
            });
            if let Err(error) = written {
                stored.shared.pending.lock().remove(&path);
                tracing::warn!(%error, "a response was not stored");
            }
            if stored.shared.writes.fetch_add(1, Relaxed).is_multiple_of(SWEEP) {
                stored.sweep();
            }
        });
    }

    /// Reads a file: not for an async thread.
    #[must_use]
    pub fn get(&self, id: &str) -> Option<Record> {
        let path = self.path(id)?;
        if let Some(record) = self.shared.pending.lock().get(&path) {
            return Some(Record::clone(record));
        }
        let bytes = fs::read(&path).ok()?;
        match serde_json::from_slice(&bytes) {
            Ok(record) => Some(record),
            Err(error) => {
                tracing::warn!(%error, "a stored response cannot be read");
                None
            }
        }
    }

    /// False if there is none. Not for an async thread.
    ///
    /// # Errors
    /// The file is there and cannot be removed.
    pub fn delete(&self, id: &str) -> io::Result<bool> {
        let Some(path) = self.path(id) else { return Ok(false) };
        let mut pending = self.shared.pending.lock();
        let unwritten = pending.remove(&path).is_some();
        match fs::remove_file(&path) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(unwritten),
            Err(error) => Err(error),
        }
    }

    /// Only an id of ours is a file's name.
    fn path(&self, id: &str) -> Option<PathBuf> {
        let number = id.strip_prefix("resp_")?;
        let hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        (number.len() == 32 && number.bytes().all(hex)).then(|| self.folder.join(format!("{id}.json")))
    }

    /// Ids begin with the time, so that the oldest come first by name.
    fn sweep(&self) {
        let Ok(entries) = fs::read_dir(&self.folder) else { return };
        let mut files: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
        files.sort_unstable();
        let over = files.len().saturating_sub(MOST);
        let old = |path: &Path| {
            let modified = fs::metadata(path).and_then(|metadata| metadata.modified());
            modified.is_ok_and(|at| SystemTime::now().duration_since(at).is_ok_and(|age| age > KEPT))
        };
        for (index, file) in files.iter().enumerate() {
            if index < over || old(file) {
                let _ = fs::remove_file(file);
            }
        }
    }
}

/// The file that is to be renamed to `path`: a record is there whole or not at all.
fn write(path: &Path, record: &Record) -> io::Result<PathBuf> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    let unfinished = path.with_extension("new");
    let mut file = fs::File::create(&unfinished)?;
    file.write_all(&serde_json::to_vec(record)?)?;
    file.sync_all()?;
    Ok(unfinished)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const ID: &str = "resp_0123456789abcdef0123456789abcdef";

    fn record() -> Record {
        Record { response: json!({"id": ID}), input: vec![json!({"role": "user"})] }
    }

    async fn settled(tasks: &TaskTracker) {
        tasks.close();
        tasks.wait().await;
        tasks.reopen();
    }

    #[tokio::test]
    async fn it_is_found_at_once_after_a_restart_and_by_its_tenant_alone() {
        let folder = tempfile::tempdir().unwrap();
        let (tasks, store) = (TaskTracker::new(), ResponseStore::new(folder.path()));
        let [one, other] = ["a", ".."].map(|name| store.tenant(&name.parse().unwrap()));
        one.put(ID, record(), &tasks);
        assert_eq!(one.get(ID), Some(record()));
        settled(&tasks).await;
        assert!(store.0.pending.lock().is_empty());
        assert_eq!((one.get(ID), other.get(ID)), (Some(record()), None));
        let again = ResponseStore::new(folder.path()).tenant(&"a".parse().unwrap());
        assert_eq!(again.get(ID), Some(record()));
        assert_eq!(
            (other.delete(ID).unwrap(), one.delete(ID).unwrap(), one.delete(ID).unwrap()),
            (false, true, false)
        );
        assert_eq!(one.get(ID), None);
    }

    #[tokio::test]
    async fn what_is_deleted_before_it_is_written_stays_deleted() {
        let folder = tempfile::tempdir().unwrap();
        let (tasks, store) = (TaskTracker::new(), ResponseStore::new(folder.path()));
        let one = store.tenant(&"a".parse().unwrap());
        one.put(ID, record(), &tasks);
        assert!(one.delete(ID).unwrap());
        settled(&tasks).await;
        assert_eq!(one.get(ID), None);
    }

    /// At whatever point of its writing.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn what_is_deleted_is_gone_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let (tasks, store) = (TaskTracker::new(), ResponseStore::new(folder.path()));
        let one = store.tenant(&"a".parse().unwrap());
        for round in 0..400 {
            one.put(ID, record(), &tasks);
            let then = std::time::Instant::now() + Duration::from_micros(round * 5);
            while std::time::Instant::now() < then {
                std::hint::spin_loop();
            }
            assert!(one.delete(ID).unwrap(), "round {round}");
            assert_eq!(one.get(ID), None, "round {round}");
            settled(&tasks).await;
            assert_eq!(one.get(ID), None, "round {round}");
        }
        let left = fs::read_dir(&one.folder).unwrap().count();
        assert_eq!(left, 0, "files");
    }

    #[test]
    fn only_ids_of_ours_are_looked_for() {
        let folder = tempfile::tempdir().unwrap();
        let one = ResponseStore::new(folder.path()).tenant(&"a".parse().unwrap());
        for id in ["", "resp_", "resp_../../../../etc/passwd", "resp_0123456789ABCDEF0123456789abcdef", "x"] {
            assert!(one.path(id).is_none(), "{id}");
        }
    }

    #[test]
    fn the_oldest_go_first() {
        let folder = tempfile::tempdir().unwrap();
        let one = ResponseStore::new(folder.path()).tenant(&"a".parse().unwrap());
        fs::create_dir_all(&one.folder).unwrap();
        for number in 0..MOST + 2 {
            fs::File::create(one.folder.join(format!("resp_{number:032x}.json"))).unwrap();
        }
        one.sweep();
        let left: Vec<_> =
            fs::read_dir(&one.folder).unwrap().flatten().map(|entry| entry.file_name()).collect();
        assert_eq!(left.len(), MOST);
        assert!(!left.iter().any(|name| name.to_string_lossy().contains(&format!("{:032x}", 1))));
    }
}
