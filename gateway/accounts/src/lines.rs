//! An append-only file of JSON lines with a checksum each: `crc32 SPACE json NEWLINE`, the CRC in 8 hexadecimal digits.
//!
//! `cut -c10-` makes plain JSON lines of it. Every method blocks on the disk.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;

#[derive(Debug)]
pub struct Lines {
    path: PathBuf,
    file: Arc<File>,
    /// Up to the end of the last line that was written whole.
    bytes: u64,
    /// There may be part of a line behind `bytes`.
    torn: bool,
}

/// What was wrong with a file.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Damage {
    /// Lines that do not hold, with ones that do behind them: written once, and damaged since.
    pub lines: usize,
    /// Bytes behind the last line that holds: what a crash left of an unfinished write. They are cut off.
    pub torn: u64,
}

impl Lines {
    /// Opens or creates the file and hands over every record that holds, in order.
    ///
    /// # Errors
    /// The disk's.
    pub fn open<T: DeserializeOwned>(path: &Path, mut each: impl FnMut(T)) -> io::Result<(Self, Damage)> {
        let mut file = OpenOptions::new().create(true).read(true).append(true).open(path)?;
        let mut text = Vec::new();
        file.read_to_end(&mut text)?;
        let (mut end, mut whole, mut bad, mut damaged) = (0, 0, 0, 0);
        for line in text.split_inclusive(|byte| *byte == b'\n') {
            end += line.len();
            match record(line) {
                Some(record) => {
                    each(record);
                    whole = end;
                    damaged += std::mem::take(&mut bad);
                }
                None => bad += 1,
            }
        }
        let damage = Damage { lines: damaged, torn: (text.len() - whole) as u64 };
        if damage.torn > 0 {
            file.set_len(whole as u64)?;
        }
        file.sync_all()?;
        sync_folder(path)?;
        let file = Arc::new(file);
        Ok((Self { path: path.to_owned(), file, bytes: whole as u64, torn: false }, damage))
    }

    /// A file that begins with this record, there whole or not at all.
    ///
    /// # Errors
    /// The disk's.
    pub fn begin(path: &Path, head: &impl Serialize) -> io::Result<Self> {
        let unfinished = path.with_extension("new");
        let mut text = Vec::new();
        line(&mut text, head)?;
        let mut file = File::create(&unfinished)?;
        file.write_all(&text)?;
        file.sync_all()?;
        fs::rename(&unfinished, path)?;
        sync_folder(path)?;
        let file = Arc::new(OpenOptions::new().append(true).open(path)?);
        Ok(Self { path: path.to_owned(), file, bytes: text.len() as u64, torn: false })
    }

    /// Lines made by [`line`]. On an error none of them counts as written, and the same may be tried again.
    ///
    /// # Errors
    /// The disk's.
    pub fn append(&mut self, lines: &[u8]) -> io::Result<()> {
        if self.torn {
            self.file.set_len(self.bytes)?;
        }
        self.torn = true;
        (&*self.file).write_all(lines)?;
        self.torn = false;
        self.bytes += lines.len() as u64;
        Ok(())
    }

    /// As [`Self::append`]; on return they are on the disk.
    ///
    /// # Errors
    /// The disk's.
    pub fn append_synced(&mut self, lines: &[u8]) -> io::Result<()> {
        let before = self.bytes;
        self.append(lines)?;
        if let Err(error) = self.sync() {
            // What the disk did not take may be gone from memory as well: it is written again.
            (self.bytes, self.torn) = (before, true);
            return Err(error);
        }
        Ok(())
    }

    /// # Errors
    /// The disk's.
    pub fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    /// To sync it from another thread.
    #[must_use]
    pub fn file(&self) -> Arc<File> {
        Arc::clone(&self.file)
    }

    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// Adds the record as a line.
///
/// # Errors
/// The record's own `Serialize`.
pub fn line(text: &mut Vec<u8>, record: &impl Serialize) -> io::Result<()> {
    let json = serde_json::to_vec(record)?;
    write!(text, "{:08x} ", crc32fast::hash(&json))?;
    text.extend_from_slice(&json);
    text.push(b'\n');
    Ok(())
}

fn record<T: DeserializeOwned>(line: &[u8]) -> Option<T> {
    let (crc, json) = line.strip_suffix(b"\n")?.split_at_checked(8)?;
    let json = json.strip_prefix(b" ")?;
    let crc = u32::from_str_radix(std::str::from_utf8(crc).ok()?, 16).ok()?;
    if crc32fast::hash(json) == crc { serde_json::from_slice(json).ok() } else { None }
}

/// A new name in a folder is durable once the folder is. Blocks on the disk.
///
/// # Errors
/// The folder cannot be opened or synced.
pub fn sync_folder(path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => File::open(folder)?.sync_all(),
        _ => File::open(".")?.sync_all(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(path: &Path, numbers: &[u32]) {
        let (mut lines, _) = Lines::open::<u32>(path, |_| ()).unwrap();
        let mut text = Vec::new();
        numbers.iter().for_each(|number| line(&mut text, number).unwrap());
        lines.append_synced(&text).unwrap();
    }

    fn read(path: &Path) -> (Vec<u32>, Damage) {
        let mut numbers = Vec::new();
        let (_, damage) = Lines::open(path, |number| numbers.push(number)).unwrap();
        (numbers, damage)
    }

    #[test]
    fn what_was_appended_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.log");
        write(&path, &[1, 2]);
        write(&path, &[3]);
        assert_eq!(read(&path), (vec![1, 2, 3], Damage::default()));
    }

    /// At whatever byte a crash ended a write: all lines before it are there, and the next ones follow cleanly.
    #[test]
    fn an_unfinished_write_is_cut_off_wherever_it_ended() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.log");
        write(&path, &[10, 20, 30]);
        let whole = fs::read(&path).unwrap();
        for cut in 0..whole.len() {
            fs::write(&path, &whole[..cut]).unwrap();
            let lines = whole[..cut].iter().filter(|byte| **byte == b'\n').count();
            let expected = &[10, 20, 30][..lines];
            let (numbers, damage) = read(&path);
            assert_eq!((numbers.as_slice(), damage.lines), (expected, 0), "cut at {cut}");
            write(&path, &[40]);
            assert_eq!(read(&path), ([expected, &[40]].concat(), Damage::default()), "cut at {cut}");
        }
    }

    #[test]
    fn a_damaged_line_is_told_and_spoils_no_other() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.log");
        write(&path, &[1, 2, 3]);
        let mut text = fs::read(&path).unwrap();
        let at = text.windows(2).position(|pair| pair == b" 2").unwrap() + 1;
        text[at] = b'7';
        fs::write(&path, &text).unwrap();
        assert_eq!(read(&path), (vec![1, 3], Damage { lines: 1, torn: 0 }));
    }

    #[test]
    fn a_file_begins_with_its_head() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.log");
        let mut lines = Lines::begin(&path, &7).unwrap();
        let mut text = Vec::new();
        line(&mut text, &8).unwrap();
        lines.append(&text).unwrap();
        assert_eq!(read(&path).0, [7, 8]);
        assert_eq!(lines.bytes(), fs::metadata(&path).unwrap().len());
    }
}
