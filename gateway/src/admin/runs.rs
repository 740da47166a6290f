//! The last reports of the curation job, kept in a file and in memory, newest first for the reader.

use std::collections::VecDeque;
use std::fs;
use std::io;
use std::path::Path;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::journal::Journal;

/// Reports kept; a nightly job fills this in half a year.
pub const KEPT: usize = 200;
const FILE: &str = "replay-runs.jsonl";

/// One report, as the job wrote it, and when it came.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "ReplayRun")]
pub struct Run {
    pub received_at_ms: i64,
    pub report: Map<String, Value>,
}

#[derive(Debug)]
pub struct RunLog {
    journal: Journal,
    runs: VecDeque<Run>,
    /// Lines in the file; those above `KEPT` are left until they are as many again.
    lines: usize,
}

impl RunLog {
    /// Blocks. A line that is not a report (from another version) is left out.
    pub fn open(data_dir: &Path) -> io::Result<Self> {
        let journal = Journal::open(data_dir.join(FILE))?;
        let text = fs::read_to_string(journal.path())?;
        let lines = text.lines().count();
        let mut runs: VecDeque<Run> =
            text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
        runs.drain(..runs.len().saturating_sub(KEPT));
        Ok(Self { journal, runs, lines })
    }

    /// Blocks until the report is on the disk.
    pub fn add(&mut self, run: Run) -> io::Result<()> {
        self.journal.append(&run)?;
        self.lines += 1;
        self.runs.push_back(run);
        while self.runs.len() > KEPT {
            self.runs.pop_front();
        }
        if self.lines >= 2 * KEPT {
            self.journal.replace(self.runs.iter())?;
            self.lines = self.runs.len();
        }
        Ok(())
    }

    /// Newest first.
    pub fn newest(&self, limit: usize) -> Vec<Run> {
        self.runs.iter().rev().take(limit).cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(at: i64) -> Run {
        Run { received_at_ms: at, report: Map::from_iter([("improved".to_owned(), Value::from(at))]) }
    }

    fn times(log: &RunLog, limit: usize) -> Vec<i64> {
        log.newest(limit).iter().map(|run| run.received_at_ms).collect()
    }

    #[test]
    fn reports_are_there_after_a_restart_newest_first() {
        let dir = tempfile::tempdir().unwrap();
        let mut log = RunLog::open(dir.path()).unwrap();
        for at in 1..=3 {
            log.add(run(at)).unwrap();
        }
        let again = RunLog::open(dir.path()).unwrap();
        assert_eq!(times(&again, 2), [3, 2]);
        assert_eq!(again.newest(1)[0], run(3));
    }

    #[test]
    fn neither_memory_nor_file_grows_without_end() {
        let dir = tempfile::tempdir().unwrap();
        let mut log = RunLog::open(dir.path()).unwrap();
        let n = 2 * KEPT as i64 + 5;
        for at in 1..=n {
            log.add(run(at)).unwrap();
        }
        assert_eq!(log.newest(usize::MAX).len(), KEPT);
        let lines = fs::read_to_string(dir.path().join(FILE)).unwrap().lines().count();
        assert!(lines <= 2 * KEPT, "{lines} lines");
        assert_eq!(times(&RunLog::open(dir.path()).unwrap(), 1), [n]);
    }

    #[test]
    fn a_line_of_another_kind_is_left_out() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(FILE), "{\"received_at_ms\":1,\"report\":{}}\nnot json\n{}\n").unwrap();
        assert_eq!(times(&RunLog::open(dir.path()).unwrap(), 9), [1]);
    }
}
