//! What a curation has done, so that a killed one goes on where it stopped: an append-only file, one JSON line an
//! event, on the disk before the next step is taken.
//!
//! A pass is one walk down the ranking. It stays open over runs that end early (budget, busy pool, signal, crash) and
//! examples finished in it are not asked again; it ends when no further replay pays. A decision is written down before
//! it is sent to the gateway, so a crash in between costs no answers: the next run sends it.

use std::collections::HashSet;
use std::fmt;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::CurateError;
use super::report::{Improvement, Stop};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    PassStarted {
        at: jiff::Timestamp,
        gateway: String,
        judge: String,
    },
    /// A better answer was found; it may or may not have reached the gateway.
    Decided {
        improvement: Improvement,
        author: String,
        tokens: u64,
    },
    Finished {
        at: jiff::Timestamp,
        tenant: String,
        id: String,
        outcome: Outcome,
        tokens: u64,
    },
    /// The run told the gateway about everything above.
    Reported {
        at: jiff::Timestamp,
        stopped_because: Stop,
    },
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Outcome {
    Improved {
        improvement: Improvement,
        expected_saving: f64,
    },
    /// The stored answer stood.
    Kept,
    Skipped {
        reason: String,
    },
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Improved { improvement, .. } => write!(f, "improved, {}", improvement.why),
            Self::Kept => f.write_str("the stored answer stands"),
            Self::Skipped { reason } => write!(f, "skipped, {reason}"),
        }
    }
}

/// What the file says about the pass that is open.
#[derive(Debug, Default)]
pub struct OpenPass {
    pub started: bool,
    /// (tenant, id) of every example that need not be asked again.
    pub finished: HashSet<(String, String)>,
    /// A decision that may not have reached the gateway.
    pub pending: Option<(Improvement, String, u64)>,
    /// Outcomes no report has told yet, with their tokens.
    pub unreported: Vec<(Outcome, u64)>,
}

#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    file: File,
}

impl Journal {
    /// One file for each gateway. A last line that a crash cut short is taken off.
    pub fn open(state_dir: &Path, gateway: &str) -> Result<(Self, OpenPass), CurateError> {
        let hash: String = Sha256::digest(gateway).iter().take(6).map(|byte| format!("{byte:02x}")).collect();
        let path = state_dir.join(format!("curate-{hash}.jsonl"));
        let at = |source| CurateError::Journal { path: path.clone(), source };
        fs::create_dir_all(state_dir).map_err(at)?;
        let file = File::options().read(true).append(true).create(true).open(&path).map_err(at)?;
        let text = fs::read(&path).map_err(at)?;
        let whole = text.iter().rposition(|&byte| byte == b'\n').map_or(0, |end| end + 1);
        if whole < text.len() {
            file.set_len(whole as u64).map_err(at)?;
        }
        let events = text[..whole]
            .split(|&byte| byte == b'\n')
            .filter(|line| !line.is_empty())
            .map(serde_json::from_slice)
            .collect::<Result<Vec<Event>, _>>()
            .map_err(|error| at(std::io::Error::new(std::io::ErrorKind::InvalidData, error)))?;
        let open = open_pass(events);
        Ok((Self { path, file }, open))
    }

    /// Returns once the event is on the disk. Blocks for the few milliseconds of a sync, between answers that take
    /// seconds.
    pub fn append(&mut self, event: &Event) -> Result<(), CurateError> {
        let mut line = serde_json::to_vec(event).map_err(|error| self.error(error.into()))?;
        line.push(b'\n');
        self.file
            .write_all(&line)
            .and_then(|()| self.file.sync_data())
            .map_err(|source| CurateError::Journal { path: self.path.clone(), source })
    }

    pub(super) fn reported(&mut self, stopped_because: Stop) -> Result<(), CurateError> {
        self.append(&Event::Reported { at: jiff::Timestamp::now(), stopped_because })
    }

    fn error(&self, source: std::io::Error) -> CurateError {
        CurateError::Journal { path: self.path.clone(), source }
    }
}

fn open_pass(events: Vec<Event>) -> OpenPass {
    let mut open = OpenPass::default();
    for event in events {
        match event {
            Event::PassStarted { .. } => open = OpenPass { started: true, ..OpenPass::default() },
            Event::Decided { improvement, author, tokens } => {
                open.pending = Some((improvement, author, tokens));
            }
            Event::Finished { tenant, id, outcome, tokens, .. } => {
                if open
                    .pending
                    .as_ref()
                    .is_some_and(|(pending, ..)| pending.id == id && pending.tenant == tenant)
                {
                    open.pending = None;
                }
                open.finished.insert((tenant, id));
                open.unreported.push((outcome, tokens));
            }
            Event::Reported { stopped_because, .. } => {
                open.unreported.clear();
                if stopped_because.ends_the_pass() {
                    open = OpenPass::default();
                }
            }
        }
    }
    open
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finished(id: &str) -> Event {
        Event::Finished {
            at: jiff::Timestamp::now(),
            tenant: "t".into(),
            id: id.into(),
            outcome: Outcome::Kept,
            tokens: 5,
        }
    }

    fn started() -> Event {
        Event::PassStarted { at: jiff::Timestamp::now(), gateway: "g".into(), judge: "j".into() }
    }

    #[test]
    fn an_open_pass_survives_a_cut_line() {
        let dir = tempfile::tempdir().unwrap();
        let (mut journal, open) = Journal::open(dir.path(), "g").unwrap();
        assert!(!open.started);
        journal.append(&started()).unwrap();
        journal.append(&finished("a")).unwrap();
        let path = journal.path.clone();
        let mut file = File::options().append(true).open(&path).unwrap();
        file.write_all(b"{\"event\":\"fini").unwrap();

        let (mut journal, open) = Journal::open(dir.path(), "g").unwrap();
        assert!(open.started && open.finished.contains(&("t".into(), "a".into())));
        assert_eq!(open.unreported.len(), 1);
        journal.append(&finished("b")).unwrap();
        assert_eq!(Journal::open(dir.path(), "g").unwrap().1.finished.len(), 2);
    }

    #[test]
    fn a_report_closes_the_pass_only_if_nothing_pays_any_more() {
        let dir = tempfile::tempdir().unwrap();
        let (mut journal, _) = Journal::open(dir.path(), "g").unwrap();
        journal.append(&started()).unwrap();
        journal.append(&finished("a")).unwrap();
        journal.reported(Stop::Budget).unwrap();
        let open = Journal::open(dir.path(), "g").unwrap().1;
        assert!(open.started && open.finished.len() == 1 && open.unreported.is_empty());
        journal.reported(Stop::SavingBelowCost).unwrap();
        assert!(!Journal::open(dir.path(), "g").unwrap().1.started);
    }

    #[test]
    fn each_gateway_has_its_own_file() {
        let dir = tempfile::tempdir().unwrap();
        Journal::open(dir.path(), "g").unwrap().0.append(&started()).unwrap();
        assert!(!Journal::open(dir.path(), "h").unwrap().1.started);
    }
}
