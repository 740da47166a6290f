use std::{
    fmt, fs, io,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
    thread,
    time::Duration,
};

use parking_lot::Mutex;

use super::{LoggedChange, Store, StoreError, Visit, Write};

/// sled in a folder. One process at a time.
///
/// One tree: data under `d`, the change log under `c` and a big-endian sequence number, so that a batch writes both or
/// neither. 0.34 panics on some damage, so each call into it is caught and becomes [`StoreError::Damaged`].
pub struct SledStore {
    db: sled::Db,
    path: PathBuf,
    /// The last sequence number, and the oldest that the log still has. Held while a batch is written: batches are
    /// numbered in the order in which they are applied.
    log: Mutex<Log>,
    /// Sequence number up to which all is flushed.
    flushed: AtomicU64,
}

#[derive(Debug, Clone, Copy)]
struct Log {
    last: u64,
    oldest: u64,
}

const DATA: u8 = b'd';
const CHANGE: u8 = b'c';
/// Changes that the log keeps.
const KEPT: u64 = 65_536;

/// How sled is run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SledConfig {
    /// Of sled's page cache, in bytes. Values are kept decoded above it, so it mostly serves writes; sled's own default
    /// is 1 GiB.
    pub cache_capacity: u64,
}

impl Default for SledConfig {
    fn default() -> Self {
        Self { cache_capacity: 64 << 20 }
    }
}

impl SledStore {
    /// # Errors
    /// The folder is locked by another process, cannot be written, or its files are damaged.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        Self::open_with(path, SledConfig::default())
    }

    /// # Errors
    /// As [`open`](Self::open).
    pub fn open_with(path: &Path, config: SledConfig) -> Result<Self, StoreError> {
        if is_locked(path) {
            return Err(StoreError::Locked { path: path.to_owned() });
        }
        let open = || -> Result<Self, sled::Error> {
            let db = sled::Config::new()
                .path(path)
                .cache_capacity(config.cache_capacity)
                // Flushing is the caller's timer, so that it knows of errors.
                .flush_every_ms(None)
                .open()?;
            let sequence = |entry: Option<(sled::IVec, sled::IVec)>| {
                entry
                    .and_then(|(key, _)| Some(u64::from_be_bytes(key.get(1..)?.try_into().ok()?)))
                    .unwrap_or(0)
            };
            let mut changes = db.scan_prefix([CHANGE]);
            let oldest = sequence(changes.next().transpose()?);
            let last = sequence(changes.next_back().transpose()?).max(oldest);
            Ok(Self {
                db,
                path: path.to_owned(),
                log: Mutex::new(Log { last, oldest: oldest.max(1) }),
                flushed: AtomicU64::new(0),
            })
        };
        let reason = match catch_unwind(AssertUnwindSafe(open)) {
            Ok(Ok(store)) => return Ok(store),
            Ok(Err(error)) => error.to_string(),
            Err(_) => "it panicked on reading its files".into(),
        };
        Err(StoreError::Open { path: path.to_owned(), reason })
    }

    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes that a flush had covered and that the store no longer knows of.
    #[must_use]
    pub fn lost_writes(&self) -> u64 {
        let flushed = fs::read_to_string(self.path.join(FLUSHED)).ok();
        let flushed: u64 = flushed.and_then(|number| number.trim().parse().ok()).unwrap_or(0);
        flushed.saturating_sub(self.sequence())
    }

    /// Notes beside sled's own files how far the flush went, so that a log cut short is noticed.
    fn note_flushed(&self, sequence: u64) -> io::Result<()> {
        let (temporary, target) = (self.path.join("flushed-sequence.new"), self.path.join(FLUSHED));
        fs::write(&temporary, sequence.to_string())?;
        fs::rename(temporary, target)
    }
}

/// True if the store is open elsewhere, and stays so: sled's own threads give a dropped store's lock back a moment later.
pub fn is_locked(path: &Path) -> bool {
    const PAUSE: Duration = Duration::from_millis(25);
    const PAUSES: usize = 80;
    let is_locked = || {
        // sled's lock is flock(2) on this file, as this one is; it is given back when the file closes.
        let file = fs::File::open(path.join("db"));
        file.is_ok_and(|file| matches!(file.try_lock(), Err(fs::TryLockError::WouldBlock)))
    };
    let still = |_| {
        let locked = is_locked();
        if locked {
            thread::park_timeout(PAUSE);
        }
        locked
    };
    (0..PAUSES).all(still)
}

const FLUSHED: &str = "flushed-sequence";

fn data(key: &[u8]) -> Vec<u8> {
    [&[DATA], key].concat()
}

fn change(sequence: u64) -> [u8; 9] {
    let mut key = [CHANGE; 9];
    key[1..].copy_from_slice(&sequence.to_be_bytes());
    key
}

/// Runs a call into sled; a panic there is damage, not our end.
fn guarded<T>(call: impl FnOnce() -> Result<T, sled::Error>) -> Result<T, StoreError> {
    match catch_unwind(AssertUnwindSafe(call)) {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error @ sled::Error::Corruption { .. })) => Err(StoreError::Damaged(error.to_string())),
        Ok(Err(error)) => Err(StoreError::Io(error.to_string())),
        Err(_) => Err(StoreError::Damaged("it panicked".into())),
    }
}

impl Store for SledStore {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        guarded(|| Ok(self.db.get(data(key))?.map(|value| value.to_vec())))
    }

    fn write(&self, writes: &[Write]) -> Result<u64, StoreError> {
        let mut log = self.log.lock();
        let mut batch = sled::Batch::default();
        let Log { mut last, mut oldest } = *log;
        for write in writes {
            last += 1;
            let key = match write {
                Write::Put { key, value } => {
                    batch.insert(data(key), value.as_slice());
                    key
                }
                Write::Delete { key } => {
                    batch.remove(data(key));
                    key
                }
            };
            batch.insert(&change(last), key.as_slice());
        }
        while last - oldest >= KEPT {
            batch.remove(&change(oldest));
            oldest += 1;
        }
        guarded(|| self.db.apply_batch(batch))?;
        *log = Log { last, oldest };
        Ok(last)
    }

    fn scan(&self, prefix: &[u8], visit: Visit<'_>) -> Result<(), StoreError> {
        guarded(|| {
            for entry in self.db.scan_prefix(data(prefix)) {
                let (key, value) = entry?;
                visit(&key[1..], &value);
            }
            Ok(())
        })
    }

    fn sequence(&self) -> u64 {
        self.log.lock().last
    }

    fn changes_since(&self, sequence: u64, limit: usize) -> Result<Vec<LoggedChange>, StoreError> {
        guarded(|| {
            let mut changes = Vec::new();
            for entry in self.db.range(change(sequence.saturating_add(1))..).take(limit) {
                let (key, value) = entry?;
                let Some(number) = key.strip_prefix(&[CHANGE]).and_then(|key| key.try_into().ok()) else {
                    break;
                };
                changes.push(LoggedChange { sequence: u64::from_be_bytes(number), key: value.to_vec() });
            }
            Ok(changes)
        })
    }

    fn flush(&self) -> Result<(), StoreError> {
        let sequence = self.sequence();
        if sequence == self.flushed.load(Ordering::Relaxed) {
            return Ok(());
        }
        guarded(|| self.db.flush())?;
        self.note_flushed(sequence).map_err(|error| StoreError::Io(error.to_string()))?;
        self.flushed.store(sequence, Ordering::Relaxed);
        Ok(())
    }

    fn size_on_disk(&self) -> Result<u64, StoreError> {
        guarded(|| self.db.size_on_disk())
    }
}

impl fmt::Debug for SledStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SledStore").field("path", &self.path).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(key: &str, value: &str) -> Write {
        Write::Put { key: key.into(), value: value.into() }
    }

    #[test]
    fn the_feed_tells_every_change_in_order_and_goes_on_after_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        {
            let store = SledStore::open(folder.path()).unwrap();
            assert_eq!(store.sequence(), 0);
            assert_eq!(store.write(&[put("a", "1"), put("b", "2")]).unwrap(), 2);
            assert_eq!(store.write(&[Write::Delete { key: b"a".to_vec() }]).unwrap(), 3);
            store.flush().unwrap();
        }
        let store = SledStore::open(folder.path()).unwrap();
        assert_eq!(store.sequence(), 3);
        assert_eq!((store.get(b"a").unwrap(), store.get(b"b").unwrap()), (None, Some(b"2".to_vec())));
        store.write(&[put("c", "3")]).unwrap();
        let keys = |from| -> Vec<_> {
            let changes = store.changes_since(from, 10).unwrap();
            changes
                .into_iter()
                .map(|change| (change.sequence, String::from_utf8(change.key).unwrap()))
                .collect()
        };
        assert_eq!(keys(0), [(1, "a".into()), (2, "b".into()), (3, "a".into()), (4, "c".into())]);
        assert_eq!(keys(3), [(4, "c".into())]);
        assert_eq!(keys(4), []);
    }

    #[test]
    fn an_open_store_is_locked_and_not_called_damaged() {
        let folder = tempfile::tempdir().unwrap();
        let store = SledStore::open(folder.path()).unwrap();
        let second = SledStore::open(folder.path()).map(|_| ());
        assert!(matches!(second, Err(StoreError::Locked { .. })), "{second:?}");
        drop(store);
        SledStore::open(folder.path()).unwrap();
    }

    #[test]
    fn a_scan_stays_within_its_prefix() {
        let folder = tempfile::tempdir().unwrap();
        let store = SledStore::open(folder.path()).unwrap();
        store.write(&[put("ab1", ""), put("ab2", ""), put("ac", ""), put("b", "")]).unwrap();
        let mut keys = Vec::new();
        store.scan(b"ab", &mut |key, _| keys.push(key.to_vec())).unwrap();
        assert_eq!(keys, [b"ab1", b"ab2"]);
    }
}
