//! Whether a file is what the manifest says. Hashing a gigabyte takes a second, so a file that was verified once is marked:
//! `<file>.verified` holds the hash, the size and the time of change that it had.

use std::{
    fs::{self, File},
    io::{self, Read},
    path::{Path, PathBuf},
    time::UNIX_EPOCH,
};

use sha2::{Digest, Sha256};

use crate::FileSpec;

/// Lower-case hexadecimal SHA-256 of a file's bytes.
pub fn sha256(path: &Path) -> io::Result<String> {
    let (mut file, mut hasher, mut buffer) = (File::open(path)?, Sha256::new(), vec![0; 1 << 20]);
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(format!("{:x}", hasher.finalize())),
            read => hasher.update(&buffer[..read]),
        }
    }
}

/// True if the file was verified before and has not been touched since.
pub fn is_marked(path: &Path, spec: &FileSpec) -> bool {
    mark_of(path, spec)
        .is_some_and(|mark| fs::read_to_string(mark_path(path)).is_ok_and(|found| found == mark))
}

/// Marks a file that has just been verified.
pub fn mark(path: &Path, spec: &FileSpec) -> io::Result<()> {
    match mark_of(path, spec) {
        Some(mark) => fs::write(mark_path(path), mark),
        None => Ok(()),
    }
}

/// True if the file is there with the right size and hash; marks it if so.
pub fn is_intact(path: &Path, spec: &FileSpec) -> bool {
    let intact = fs::metadata(path).is_ok_and(|meta| meta.len() == spec.bytes)
        && sha256(path).is_ok_and(|hash| hash == spec.sha256);
    intact && mark(path, spec).is_ok()
}

fn mark_of(path: &Path, spec: &FileSpec) -> Option<String> {
    let meta = fs::metadata(path).ok().filter(|meta| meta.len() == spec.bytes)?;
    let changed = meta.modified().ok()?.duration_since(UNIX_EPOCH).ok()?;
    Some(format!("{} {} {}\n", spec.sha256, spec.bytes, changed.as_nanos()))
}

fn mark_path(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".verified");
    name.into()
}
