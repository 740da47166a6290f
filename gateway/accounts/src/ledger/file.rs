//! The ledger's files: `usage-00000001.log` and so on, of which the last is written to. Each begins with a snapshot, so that
//! only the last is needed to start; the others are kept for whoever wants to count again.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::books::Books;
use super::record::Record;
use crate::lines::{Damage, Lines};

#[derive(Debug, Clone)]
pub struct LedgerOptions {
    pub folder: PathBuf,
    /// A file longer than this is followed by another.
    pub file_bytes: u64,
    /// Files kept, with the one written to; `None`: all.
    pub files: Option<usize>,
    /// A record counts as durable when it is on the disk, or when what stands there ahead of it covers it; if false, when the
    /// system has it, which survives the end of the process but not of the machine.
    pub sync: bool,
    /// Names the time from a start of the machine to its end, which takes with it what was not on the disk.
    pub boot: Arc<str>,
}

impl LedgerOptions {
    #[must_use]
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Self { folder: folder.into(), file_bytes: 16 << 20, files: None, sync: true, boot: this_boot() }
    }
}

/// Where the system tells none, one that never comes again: then each end is taken for the machine's.
fn this_boot() -> Arc<str> {
    match fs::read_to_string("/proc/sys/kernel/random/boot_id") {
        Ok(id) if !id.trim().is_empty() => id.trim().into(),
        _ => format!("{:032x}", rand::random::<u128>()).into(),
    }
}

#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    #[error("the ledger {} cannot be used", .path.display())]
    Io { path: PathBuf, source: io::Error },
    /// Without its head it is not known what was used before: starting all the same would give it all back.
    #[error("the ledger {} does not begin with a snapshot: put a copy in its place, or move it away to count from nothing", .path.display())]
    Head { path: PathBuf },
    #[error("the ledger's thread cannot be started")]
    Thread(#[source] io::Error),
}

/// The newest file, read; a first one if there is none.
pub fn open(folder: &Path, now: u64) -> Result<(Lines, Books, Damage), LedgerError> {
    let io = |path: &Path| {
        let path = path.to_owned();
        move |source| LedgerError::Io { path, source }
    };
    fs::create_dir_all(folder).map_err(io(folder))?;
    let mut books = Books::default();
    let Some((_, path)) = numbered(folder).map_err(io(folder))?.pop() else {
        let path = named(folder, 1);
        let lines = Lines::begin(&path, &Record::Snapshot(Box::default())).map_err(io(&path))?;
        return Ok((lines, books, Damage::default()));
    };
    let mut headed = None;
    let read = Lines::open(&path, |record: Record| {
        let head = matches!(record, Record::Snapshot(_));
        if *headed.get_or_insert(head) {
            let at = match &record {
                Record::Snapshot(_) | Record::Ahead { .. } => now,
                Record::Reserve { at, .. } | Record::Settle { at, .. } => {
                    u64::try_from(at / 1000).unwrap_or_default()
                }
            };
            books.apply(&record, at.min(now));
        }
    });
    let (lines, damage) = read.map_err(io(&path))?;
    if headed != Some(true) {
        return Err(LedgerError::Head { path });
    }
    books.not_after(now);
    Ok((lines, books, damage))
}

/// A file after this one that begins with these books.
pub fn next(lines: &Lines, books: &Books, keep: Option<usize>) -> io::Result<Lines> {
    let folder = lines.path().parent().unwrap_or(Path::new("."));
    let mut files = numbered(folder)?;
    let number = files.last().map_or(1, |(number, _)| number + 1);
    let next = Lines::begin(&named(folder, number), &Record::Snapshot(Box::new(books.snapshot())))?;
    let keep = keep.unwrap_or(usize::MAX).max(1);
    // The new one is one of those that are kept.
    files.truncate((files.len() + 1).saturating_sub(keep));
    for (_, path) in files {
        if let Err(error) = fs::remove_file(&path) {
            tracing::warn!(%error, path = %path.display(), "an old file of the ledger was not removed");
        }
    }
    Ok(next)
}

fn named(folder: &Path, number: u64) -> PathBuf {
    folder.join(format!("usage-{number:08}.log"))
}

/// By number.
fn numbered(folder: &Path) -> io::Result<Vec<(u64, PathBuf)>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let number = name.strip_prefix("usage-").and_then(|rest| rest.strip_suffix(".log"));
        if let Some(number) = number.and_then(|number| number.parse().ok()) {
            files.push((number, path));
        }
    }
    files.sort();
    Ok(files)
}
