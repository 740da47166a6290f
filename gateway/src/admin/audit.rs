//! Who changed what through the admin interface: two lines for every call that changes state.
//!
//! The first line is on the disk before the call is acted on, and a call that cannot be noted is refused: a change
//! without a trace is worse than a change refused. The second line tells how it ended; it is missing if the gateway or
//! the client went away in between.

use std::io;
use std::net::SocketAddr;
use std::path::Path;

use serde::Serialize;

use super::journal::Journal;

const FILE: &str = "admin-audit.jsonl";
/// A full file is moved aside under the time of it; whoever operates the gateway decides how long to keep those.
const FULL_BYTES: u64 = 16 << 20;

#[derive(Debug, Serialize)]
pub struct Call<'a> {
    pub at: jiff::Timestamp,
    /// Ties the two lines of a call together.
    pub call: u64,
    pub method: &'a str,
    /// Path and query, never the body: it may hold what a tenant asked.
    pub target: &'a str,
    pub peer: Option<SocketAddr>,
    /// False where no admin key is configured and being local was enough.
    pub by_key: bool,
}

#[derive(Debug, Serialize)]
pub struct Outcome {
    pub at: jiff::Timestamp,
    pub call: u64,
    pub status: u16,
}

#[derive(Debug)]
pub struct AuditLog {
    journal: Journal,
    full_bytes: u64,
}

impl AuditLog {
    pub fn open(data_dir: &Path) -> io::Result<Self> {
        Ok(Self { journal: Journal::open(data_dir.join(FILE))?, full_bytes: FULL_BYTES })
    }

    /// Blocks until the line is on the disk.
    pub fn note(&mut self, line: &impl Serialize) -> io::Result<()> {
        if self.journal.bytes() >= self.full_bytes {
            let name = format!("admin-audit-{}.jsonl", jiff::Timestamp::now().as_nanosecond());
            self.journal.rotate(&self.journal.path().with_file_name(name))?;
        }
        self.journal.append(line)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn call(call: u64) -> Call<'static> {
        let at = jiff::Timestamp::UNIX_EPOCH;
        Call { at, call, method: "DELETE", target: "/admin/v1/examples?tenant=a", peer: None, by_key: true }
    }

    #[test]
    fn a_line_says_what_was_called() {
        let dir = tempfile::tempdir().unwrap();
        AuditLog::open(dir.path()).unwrap().note(&call(7)).unwrap();
        let text = fs::read_to_string(dir.path().join(FILE)).unwrap();
        let line: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!((&line["method"], &line["call"]), (&"DELETE".into(), &7.into()));
        assert_eq!(line["target"], "/admin/v1/examples?tenant=a");
    }

    #[test]
    fn a_full_file_is_kept_aside() {
        let dir = tempfile::tempdir().unwrap();
        let mut log = AuditLog::open(dir.path()).unwrap();
        log.full_bytes = 1;
        for n in 0..3 {
            log.note(&call(n)).unwrap();
        }
        let lines: usize = fs::read_dir(dir.path())
            .unwrap()
            .map(|entry| fs::read_to_string(entry.unwrap().path()).unwrap().lines().count())
            .sum();
        assert_eq!(lines, 3);
    }
}
