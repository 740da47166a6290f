//! One file out of parts, on little more disk than the file itself takes: a part is appended as soon as those before it
//! are, and deleted at once. `<file>.part` holds what is joined, `<file>.joined` how many parts and bytes that is, so that
//! a pull which was killed goes on where it stood.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
};

use sha2::{Digest, Sha256};

/// A file on its way.
pub struct Assembly {
    scratch: PathBuf,
    name: String,
    out: File,
    hasher: Sha256,
    bytes: u64,
    /// The next part to append, from 0.
    next: usize,
}

impl Assembly {
    /// Begins, or goes on where an earlier pull was stopped.
    pub fn open(scratch: &Path, name: &str) -> io::Result<Self> {
        let (next, bytes) = read_journal(&journal(scratch, name)).unwrap_or((0, 0));
        let mut out = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(joined(scratch, name))?;
        let whole = out.metadata()?.len() >= bytes;
        let (next, bytes) = if whole { (next, bytes) } else { (0, 0) };
        out.set_len(bytes)?;
        let mut hasher = Sha256::new();
        pump(&mut out, &mut hasher, &mut io::sink())?;
        out.seek(SeekFrom::Start(bytes))?;
        Ok(Self { scratch: scratch.to_owned(), name: name.to_owned(), out, hasher, bytes, next })
    }

    /// Where a part is to be put before it can be appended. It must appear there whole: rename it into place.
    pub fn part(&self, at: usize) -> PathBuf {
        self.scratch.join(format!("{}.{at:03}", self.name))
    }

    /// True if a part need not be fetched: it is appended, or waits to be.
    pub fn has(&self, at: usize) -> bool {
        at < self.next || self.part(at).exists()
    }

    /// Bytes that need not be fetched.
    pub fn bytes_here(&self, parts: usize) -> u64 {
        let waiting = (self.next..parts).filter_map(|at| fs::metadata(self.part(at)).ok());
        self.bytes + waiting.map(|meta| meta.len()).sum::<u64>()
    }

    /// Appends the parts whose turn it is. Blocks on the disk.
    pub fn absorb(mut self) -> io::Result<Self> {
        while let Ok(mut part) = File::open(self.part(self.next)) {
            self.bytes += pump(&mut part, &mut self.hasher, &mut self.out)?;
            // The journal must not claim what a power cut can still take.
            self.out.sync_data()?;
            write_journal(&journal(&self.scratch, &self.name), self.next + 1, self.bytes)?;
            fs::remove_file(self.part(self.next))?;
            self.next += 1;
        }
        Ok(self)
    }

    /// The file and its SHA-256 if all its parts are joined.
    pub fn finish(self, parts: usize) -> io::Result<Option<(PathBuf, String)>> {
        if self.next < parts {
            return Ok(None);
        }
        // Whatever becomes of the file, there is nothing left to resume.
        fs::remove_file(journal(&self.scratch, &self.name))?;
        Ok(Some((joined(&self.scratch, &self.name), format!("{:x}", self.hasher.finalize()))))
    }
}

/// Copies what is left of `from`, and returns how many bytes that was.
pub fn pump(from: &mut impl Read, hasher: &mut Sha256, to: &mut impl Write) -> io::Result<u64> {
    let (mut buffer, mut bytes) = (vec![0; 1 << 20], 0);
    loop {
        let read = from.read(&mut buffer)?;
        if read == 0 {
            return Ok(bytes);
        }
        hasher.update(&buffer[..read]);
        to.write_all(&buffer[..read])?;
        bytes += read as u64;
    }
}

fn joined(scratch: &Path, name: &str) -> PathBuf {
    scratch.join(format!("{name}.part"))
}

fn journal(scratch: &Path, name: &str) -> PathBuf {
    scratch.join(format!("{name}.joined"))
}

fn read_journal(path: &Path) -> Option<(usize, u64)> {
    let text = fs::read_to_string(path).ok()?;
    let (parts, bytes) = text.trim_end().split_once(' ')?;
    Some((parts.parse().ok()?, bytes.parse().ok()?))
}

fn write_journal(path: &Path, parts: usize, bytes: u64) -> io::Result<()> {
    let fresh = path.with_extension("joined-new");
    fs::write(&fresh, format!("{parts} {bytes}\n"))?;
    fs::rename(fresh, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HELLO_WORLD: &str = "b94d27b9934d3e08a52e52d7da7dabfac484efe37a5380ee9088f7ace2efcde9";

    #[test]
    fn parts_are_joined_in_order_whenever_they_come() {
        let scratch = tempfile::tempdir().unwrap();
        let assembly = Assembly::open(scratch.path(), "m").unwrap();
        fs::write(assembly.part(2), "world").unwrap();
        fs::write(assembly.part(1), " ").unwrap();
        let assembly = assembly.absorb().unwrap();
        assert_eq!(assembly.bytes, 0, "part 0 is not there yet");
        assert!(assembly.has(1) && !assembly.has(0));
        fs::write(assembly.part(0), "hello").unwrap();
        let (path, hash) = assembly.absorb().unwrap().finish(3).unwrap().unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "hello world");
        assert_eq!(hash, HELLO_WORLD);
        assert_eq!(fs::read_dir(scratch.path()).unwrap().count(), 1, "parts and journal are gone");
    }

    #[test]
    fn a_killed_join_goes_on_where_it_stood() {
        let scratch = tempfile::tempdir().unwrap();
        let assembly = Assembly::open(scratch.path(), "m").unwrap();
        fs::write(assembly.part(0), "hello ").unwrap();
        drop(assembly.absorb().unwrap());
        // Killed while the second part was being appended: bytes that no journal knows.
        let mut half = OpenOptions::new().append(true).open(scratch.path().join("m.part")).unwrap();
        half.write_all(b"wo").unwrap();

        let assembly = Assembly::open(scratch.path(), "m").unwrap();
        assert!(assembly.has(0) && !assembly.has(1));
        assert_eq!(assembly.bytes_here(2), 6);
        fs::write(assembly.part(1), "world").unwrap();
        let (path, hash) = assembly.absorb().unwrap().finish(2).unwrap().unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "hello world");
        assert_eq!(hash, HELLO_WORLD);
    }

    #[test]
    fn a_journal_without_its_file_begins_anew() {
        let scratch = tempfile::tempdir().unwrap();
        fs::write(scratch.path().join("m.joined"), "1 6\n").unwrap();
        let assembly = Assembly::open(scratch.path(), "m").unwrap();
        assert!(!assembly.has(0));
        assert!(assembly.finish(1).unwrap().is_none());
    }
}
