use std::path::{Path, PathBuf};

use anyhow::Context;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::machine;
use crate::gateway::admin::TierInfo;

/// run.json: all that has to be known to judge a run's rows, or to repeat it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RunFile {
    pub label: String,
    pub policy: String,
    /// `open` (recorded arrival times), `closed` (one request at a time) or `closed, N clients`.
    #[serde(rename = "loop")]
    pub loop_kind: String,
    /// Arguments, paths cut to their last part.
    pub command: Vec<String>,
    pub seed: u64,
    pub passes: u32,
    pub requests: usize,
    pub files: Vec<DataFile>,
    pub started: jiff::Timestamp,
    #[serde(default)]
    pub finished: Option<jiff::Timestamp>,
    /// False while running, and for good if the run was interrupted.
    pub completed: bool,
    pub machine: Machine,
    #[serde(default)]
    pub tiers: Vec<TierInfo>,
    /// The gateway's own words about itself: version, router, counts before the run.
    #[serde(default)]
    pub gateway: Value,
}

/// A file the run read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DataFile {
    pub name: String,
    pub sha256: String,
}

/// The machine that ran the replay; the gateway's, where both run on one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Machine {
    pub cpu: String,
    pub cores: usize,
    pub memory_bytes: u64,
}

impl RunFile {
    #[must_use]
    pub fn new(
        label: &str,
        policy: &str,
        seed: u64,
        passes: u32,
        requests: usize,
        loop_kind: String,
    ) -> Self {
        Self {
            label: label.into(),
            policy: policy.into(),
            loop_kind,
            command: Vec::new(),
            seed,
            passes,
            requests,
            files: Vec::new(),
            started: jiff::Timestamp::now(),
            finished: None,
            completed: false,
            machine: machine::this(),
            tiers: Vec::new(),
            gateway: Value::Null,
        }
    }

    pub(crate) fn finish(&mut self, completed: bool) {
        self.finished = Some(jiff::Timestamp::now());
        self.completed = completed;
    }

    /// Written aside and renamed, so that a reader never meets half a file.
    pub fn write(&self, dir: &Path) -> anyhow::Result<()> {
        let (path, part) = (dir.join("run.json"), dir.join("run.json.part"));
        let mut text = serde_json::to_string_pretty(self)?;
        text.push('\n');
        std::fs::write(&part, text).with_context(|| format!("write {}", part.display()))?;
        std::fs::rename(&part, &path).with_context(|| format!("rename to {}", path.display()))
    }

    pub fn read(dir: &Path) -> anyhow::Result<Self> {
        let path = dir.join("run.json");
        let text = std::fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
        serde_json::from_str(&text).with_context(|| format!("parse {}", path.display()))
    }

    /// The program's arguments, with paths cut to their last part: a result is read on other machines.
    #[must_use]
    pub fn portable_command(args: impl Iterator<Item = String>) -> Vec<String> {
        args.map(|arg| {
            let path = PathBuf::from(&arg);
            match path.file_name() {
                Some(name) if arg.contains('/') && !arg.contains("://") => {
                    name.to_string_lossy().into_owned()
                }
                _ => arg,
            }
        })
        .collect()
    }
}

impl DataFile {
    pub fn of(path: &Path) -> anyhow::Result<Self> {
        let bytes = std::fs::read(path).with_context(|| format!("read {}", path.display()))?;
        let sha256 = Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect();
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        Ok(Self { name, sha256 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_of_the_command_are_cut_but_addresses_are_not() {
        let args = ["/usr/bin/reprise-replay", "trace", "--gateway", "http://127.0.0.1:8080", "--out", "a/b"];
        let command = RunFile::portable_command(args.iter().map(ToString::to_string));
        assert_eq!(command, ["reprise-replay", "trace", "--gateway", "http://127.0.0.1:8080", "--out", "b"]);
    }
}
