//! Whether a file is what the manifest says. Hashing a gigabyte takes a second, so a file that was verified once is marked:
//! `<file>.verified` holds the hash, the size and the time of change that it had.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    time::UNIX_EPOCH,
};

use sha2::{Digest, Sha256};
use tracing::debug;

use crate::{FileSpec, assembly::pump};

/// A file on this machine, held against the manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Integrity {
    Intact,
    Missing,
    /// Other bytes than the manifest names: their SHA-256.
    Damaged {
        sha256: String,
    },
}

/// Lower-case hexadecimal SHA-256 of a file's bytes.
pub fn sha256(path: &Path) -> io::Result<String> {
    copy(path, &mut io::sink())
}

/// Copies a file, and returns its SHA-256.
pub fn copy(from: &Path, to: &mut impl io::Write) -> io::Result<String> {
    let mut hasher = Sha256::new();
    pump(&mut File::open(from)?, &mut hasher, to)?;
    Ok(format!("{:x}", hasher.finalize()))
}

/// True if the file was verified before and has not been touched since.
pub fn is_marked(path: &Path, spec: &FileSpec) -> bool {
    mark_of(path, spec)
        .is_some_and(|mark| fs::read_to_string(mark_path(path)).is_ok_and(|found| found == mark))
}

/// Marks a file that has just been verified. One that cannot be marked, in a folder that is read-only, is hashed again.
pub fn mark(path: &Path, spec: &FileSpec) {
    if let Some(mark) = mark_of(path, spec)
        && let Err(error) = fs::write(mark_path(path), mark)
    {
        debug!(file = %path.display(), %error, "the file cannot be marked as verified");
    }
}

/// Hashes the file, and marks it if it is intact.
pub fn check(path: &Path, spec: &FileSpec) -> io::Result<Integrity> {
    match sha256(path) {
        Ok(hash) if hash == spec.sha256 => {
            mark(path, spec);
            Ok(Integrity::Intact)
        }
        Ok(sha256) => Ok(Integrity::Damaged { sha256 }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Integrity::Missing),
        Err(error) => Err(error),
    }
}

/// True if the file is there with the right size and hash.
pub fn is_intact(path: &Path, spec: &FileSpec) -> bool {
    fs::metadata(path).is_ok_and(|meta| meta.len() == spec.bytes)
        && check(path, spec).is_ok_and(|integrity| integrity == Integrity::Intact)
}

/// Whole seconds: archives and image layers keep no more of a time.
fn mark_of(path: &Path, spec: &FileSpec) -> Option<String> {
    let meta = fs::metadata(path).ok().filter(|meta| meta.len() == spec.bytes)?;
    let changed = meta.modified().ok()?.duration_since(UNIX_EPOCH).ok()?;
    Some(format!("{} {} {}\n", spec.sha256, spec.bytes, changed.as_secs()))
}

fn mark_path(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".verified");
    name.into()
}
