//! Opening a store that may be damaged. Losing the cache is never an outage.

use std::{
    fs,
    path::{Path, PathBuf},
};

use serde::Serialize;

use jiff::{Timestamp, tz::TimeZone};

use super::{SledConfig, SledStore, Store, StoreError, codec, sled::is_locked};

/// What a probe found out about a store's folder, without harm to the process that asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Probe {
    Sound,
    Damaged(String),
    /// It did not end in time: sled can loop on a damaged file.
    TimedOut,
}

/// How a store came up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "recovery", rename_all = "snake_case")]
pub enum Recovery {
    Clean,
    /// The snapshot was damaged, the log was not: nothing flushed is lost.
    WithoutSnapshot,
    /// sled opened it, but cut off a damaged end of its log: flushed writes are gone.
    LostWrites {
        lost: u64,
    },
    /// The folder was renamed aside and an empty store begun.
    StartedCold {
        moved_to: PathBuf,
        reason: String,
    },
}

/// What [`check`] counted.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct CheckReport {
    pub entries: u64,
    /// Values whose checksum is wrong: misses, not failures.
    pub undecodable: u64,
    pub bytes_on_disk: u64,
    pub sequence: u64,
}

/// Opens a store and reads all of it. May panic or hang on a damaged folder: run it in a child process with a deadline.
///
/// # Errors
/// The store does not open or cannot be read to its end.
pub fn check(folder: &Path) -> Result<CheckReport, StoreError> {
    let store = SledStore::open(folder)?;
    let mut report = CheckReport { sequence: store.sequence(), ..CheckReport::default() };
    store.scan(&[], &mut |_, value| {
        report.entries += 1;
        report.undecodable += u64::from(codec::intact(value).is_none());
    })?;
    report.bytes_on_disk = store.size_on_disk()?;
    Ok(report)
}

/// Opens the store in `folder`, whatever state it is in. `probe` tells whether it can be opened; it runs [`check`] where
/// a panic or an endless loop does no harm.
///
/// # Errors
/// Another process holds it: a live store is never moved. Or not even an empty store can be made there.
pub fn open_or_recover(
    folder: &Path,
    probe: &dyn Fn(&Path) -> Probe,
) -> Result<(SledStore, Recovery), StoreError> {
    open_or_recover_with(folder, SledConfig::default(), probe)
}

/// As [`open_or_recover`], with sled run as `config` says.
///
/// # Errors
/// As [`open_or_recover`].
pub fn open_or_recover_with(
    folder: &Path,
    config: SledConfig,
    probe: &dyn Fn(&Path) -> Probe,
) -> Result<(SledStore, Recovery), StoreError> {
    if is_locked(folder) {
        return Err(StoreError::Locked { path: folder.to_owned() });
    }
    let is_new = fs::read_dir(folder).map_or(true, |mut entries| entries.next().is_none());
    if is_new {
        return Ok((SledStore::open_with(folder, config)?, Recovery::Clean));
    }
    let first = match probe(folder) {
        Probe::Sound => match SledStore::open_with(folder, config) {
            Ok(store) => {
                let lost = store.lost_writes();
                let recovery = if lost == 0 { Recovery::Clean } else { Recovery::LostWrites { lost } };
                return Ok((store, recovery));
            }
            // Taken between the probe and now.
            Err(error @ StoreError::Locked { .. }) => return Err(error),
            Err(error) => error.to_string(),
        },
        Probe::Damaged(reason) => reason,
        Probe::TimedOut => "it did not open in time".into(),
    };
    if drop_snapshots(folder)
        && probe(folder) == Probe::Sound
        && let Ok(store) = SledStore::open_with(folder, config)
    {
        return Ok((store, Recovery::WithoutSnapshot));
    }
    let moved_to = aside(folder);
    fs::rename(folder, &moved_to)
        .map_err(|error| StoreError::Open { path: folder.to_owned(), reason: error.to_string() })?;
    Ok((SledStore::open_with(folder, config)?, Recovery::StartedCold { moved_to, reason: first }))
}

/// True if there was a snapshot to take away; it is kept beside, under another name.
fn drop_snapshots(folder: &Path) -> bool {
    let Ok(entries) = fs::read_dir(folder) else { return false };
    let snapshots =
        entries.flatten().filter(|entry| entry.file_name().to_string_lossy().starts_with("snap."));
    let mut dropped = false;
    for snapshot in snapshots {
        let kept = folder.join(format!("damaged-{}", snapshot.file_name().to_string_lossy()));
        dropped |= fs::rename(snapshot.path(), kept).is_ok();
    }
    dropped
}

/// `<folder>.damaged-<time in UTC>`, with a number behind it if that is taken.
fn aside(folder: &Path) -> PathBuf {
    let now = Timestamp::now().to_zoned(TimeZone::UTC).strftime("%Y%m%dT%H%M%SZ").to_string();
    let named = |suffix: &str| {
        let mut name = folder.as_os_str().to_owned();
        name.push(format!(".damaged-{now}{suffix}"));
        PathBuf::from(name)
    };
    let mut target = named("");
    let mut number = 1;
    while target.exists() {
        target = named(&format!("-{number}"));
        number += 1;
    }
    target
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ModelHash, Write};

    fn filled(folder: &Path) {
        let store = SledStore::open(folder).unwrap();
        let value = codec::encode(&ModelHash::new([0; 32]), &"x".repeat(1000), &[]).unwrap();
        for i in 0..200_u32 {
            store.write(&[Write::Put { key: i.to_be_bytes().to_vec(), value: value.clone() }]).unwrap();
        }
        store.flush().unwrap();
    }

    fn in_process(folder: &Path) -> Probe {
        check(folder).map_or_else(|error| Probe::Damaged(error.to_string()), |_| Probe::Sound)
    }

    #[test]
    fn a_sound_store_opens_as_it_is() {
        let parent = tempfile::tempdir().unwrap();
        let folder = parent.path().join("store");
        assert_eq!(open_or_recover(&folder, &|_| Probe::TimedOut).unwrap().1, Recovery::Clean);
        filled(&folder);
        let report = check(&folder).unwrap();
        assert_eq!((report.entries, report.undecodable, report.sequence), (200, 0, 200));
        assert_eq!(open_or_recover(&folder, &in_process).unwrap().1, Recovery::Clean);
    }

    #[test]
    fn a_store_that_does_not_open_is_moved_aside() {
        let parent = tempfile::tempdir().unwrap();
        let folder = parent.path().join("store");
        filled(&folder);
        fs::rename(folder.join("db"), folder.join("gone")).unwrap();
        fs::create_dir(folder.join("db")).unwrap();
        let (store, recovery) = open_or_recover(&folder, &in_process).unwrap();
        let Recovery::StartedCold { moved_to, reason } = recovery else { panic!("{recovery:?}") };
        assert!(moved_to.join("gone").exists() && !reason.is_empty());
        assert_eq!(store.sequence(), 0);
        store.write(&[Write::Put { key: b"k".to_vec(), value: b"v".to_vec() }]).unwrap();
    }

    /// sled notices damage in its log and may go on with what stands before it: that must not pass for clean.
    #[test]
    fn damage_anywhere_in_the_file_is_survived_and_told() {
        for share in [0.0, 0.3, 0.6, 0.9] {
            let parent = tempfile::tempdir().unwrap();
            let folder = parent.path().join("store");
            filled(&folder);
            let mut bytes = fs::read(folder.join("db")).unwrap();
            let from = (bytes.len() as f64 * share) as usize;
            let until = (from + 4096).min(bytes.len());
            bytes[from..until].iter_mut().for_each(|byte| *byte ^= 0xa5);
            fs::write(folder.join("db"), bytes).unwrap();
            let (store, recovery) = open_or_recover(&folder, &in_process).unwrap();
            let mut intact = 0;
            store.scan(&[], &mut |_, value| intact += u32::from(codec::intact(value).is_some())).unwrap();
            assert!(intact == 200 || recovery != Recovery::Clean, "{share}: {intact} of 200, {recovery:?}");
            store.write(&[Write::Put { key: b"k".to_vec(), value: b"v".to_vec() }]).unwrap();
            assert_eq!(store.get(b"k").unwrap(), Some(b"v".to_vec()));
        }
    }

    #[test]
    fn a_store_in_use_is_never_moved() {
        let parent = tempfile::tempdir().unwrap();
        let folder = parent.path().join("store");
        filled(&folder);
        let holder = SledStore::open(&folder).unwrap();
        let second = open_or_recover(&folder, &|_| Probe::TimedOut).map(|_| ());
        assert!(matches!(second, Err(StoreError::Locked { .. })), "{second:?}");
        assert_eq!(holder.sequence(), 200);
        assert_eq!(fs::read_dir(parent.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_probe_that_never_ends_is_damage() {
        let parent = tempfile::tempdir().unwrap();
        let folder = parent.path().join("store");
        filled(&folder);
        let (_, recovery) = open_or_recover(&folder, &|_| Probe::TimedOut).unwrap();
        assert!(matches!(recovery, Recovery::StartedCold { .. }));
    }
}
