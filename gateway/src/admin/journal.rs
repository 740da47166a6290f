//! An append-only file of JSON lines: a line that was acknowledged is on the disk.
//!
//! Small records that must outlive the process, a few a minute at most: a file that `jq` reads beats a table in the store.
//! Every method blocks on the disk; call them on a blocking thread.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use reprise_accounts::sync_folder;
use serde::Serialize;

#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    file: File,
    bytes: u64,
}

impl Journal {
    /// Opens or creates the file. A last line without its end, from a crash while writing, is cut off.
    pub fn open(path: PathBuf) -> io::Result<Self> {
        let file = OpenOptions::new().create(true).append(true).open(&path)?;
        let whole = whole_lines(&fs::read(&path)?);
        if file.metadata()?.len() != whole {
            file.set_len(whole)?;
        }
        file.sync_all()?;
        sync_folder(&path)?;
        Ok(Self { path, file, bytes: whole })
    }

    /// On return the line is on the disk. On an error nothing of it is left, as far as the disk lets us.
    pub fn append(&mut self, record: &impl Serialize) -> io::Result<()> {
        let mut line = serde_json::to_vec(record)?;
        line.push(b'\n');
        let written = self.file.write_all(&line).and_then(|()| self.file.sync_data());
        match written {
            Ok(()) => self.bytes += line.len() as u64,
            Err(_) => self.file.set_len(self.bytes)?,
        }
        written
    }

    /// Puts these records in the place of all that is there, at once: a crash leaves the old or the new.
    pub fn replace<'a, T: Serialize + 'a>(&mut self, records: impl Iterator<Item = &'a T>) -> io::Result<()> {
        let aside = self.path.with_extension("new");
        let mut text = Vec::new();
        for record in records {
            serde_json::to_writer(&mut text, record)?;
            text.push(b'\n');
        }
        let mut file = File::create(&aside)?;
        file.write_all(&text)?;
        file.sync_all()?;
        fs::rename(&aside, &self.path)?;
        sync_folder(&self.path)?;
        *self = Self::open(self.path.clone())?;
        Ok(())
    }

    /// Moves the file aside under this name and starts an empty one.
    pub fn rotate(&mut self, aside: &Path) -> io::Result<()> {
        fs::rename(&self.path, aside)?;
        *self = Self::open(self.path.clone())?;
        Ok(())
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn bytes(&self) -> u64 {
        self.bytes
    }
}

/// Bytes up to and with the last line end.
fn whole_lines(text: &[u8]) -> u64 {
    text.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at as u64 + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(path: &Path) -> Vec<u32> {
        fs::read_to_string(path).unwrap().lines().map(|line| line.parse().unwrap()).collect()
    }

    #[test]
    fn records_outlive_the_process() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("j.jsonl");
        Journal::open(path.clone()).unwrap().append(&1).unwrap();
        Journal::open(path.clone()).unwrap().append(&2).unwrap();
        assert_eq!(lines(&path), [1, 2]);
    }

    #[test]
    fn half_a_line_is_cut_off_and_does_not_spoil_the_next() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("j.jsonl");
        fs::write(&path, "1\n2\n{\"torn\":").unwrap();
        let mut journal = Journal::open(path.clone()).unwrap();
        assert_eq!(journal.bytes(), 4);
        journal.append(&3).unwrap();
        assert_eq!(lines(&path), [1, 2, 3]);
    }

    #[test]
    fn replaced_records_are_appended_to() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("j.jsonl");
        let mut journal = Journal::open(path.clone()).unwrap();
        for n in 1..=3 {
            journal.append(&n).unwrap();
        }
        journal.replace([2, 3].iter()).unwrap();
        journal.append(&4).unwrap();
        assert_eq!(lines(&path), [2, 3, 4]);
        assert_eq!(journal.bytes(), 6);
    }

    #[test]
    fn rotation_keeps_the_old_lines_aside() {
        let dir = tempfile::tempdir().unwrap();
        let (path, aside) = (dir.path().join("j.jsonl"), dir.path().join("j-1.jsonl"));
        let mut journal = Journal::open(path.clone()).unwrap();
        journal.append(&1).unwrap();
        journal.rotate(&aside).unwrap();
        journal.append(&2).unwrap();
        assert_eq!((lines(&aside), lines(&path)), (vec![1], vec![2]));
    }
}
