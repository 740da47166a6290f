use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use tracing::warn;

use crate::simulate::run::{MOMENTS, Moment};
use crate::trace::{Row, RunFile};

/// The policy that changes with what it is told.
const LEARNS: &str = "bandit";

/// One traced run, or the shares of one that was played in several. Rows carry the run's label, which is unique within a
/// report.
#[derive(Debug, Clone)]
pub struct Run {
    pub label: String,
    /// Of the run as a whole: requests and files of all shares.
    pub file: RunFile,
    /// One for each share.
    pub shares: Vec<RunFile>,
    pub rows: Vec<Row>,
    /// Of a simulated run: each request in the order of arrival.
    pub moments: Vec<Moment>,
}

impl Run {
    /// The tier that costs most: an answer from any other one was offloaded.
    #[must_use]
    pub fn dearest(&self) -> Option<&str> {
        self.file.tiers.iter().max_by(|a, b| a.cost.total_cmp(&b.cost)).map(|tier| tier.name.as_str())
    }

    /// True if the other is a share of this run: the same policy and passes under the same name, and other requests.
    fn may_take_in(&self, other: &Self) -> bool {
        let same = |file: &RunFile| {
            let RunFile { label, policy, loop_kind, seed, passes, .. } = file.clone();
            (label, policy, loop_kind, seed, passes)
        };
        let ids: HashSet<&str> = self.rows.iter().map(|row| row.id.as_str()).collect();
        same(&self.file) == same(&other.file) && !other.rows.iter().any(|row| ids.contains(row.id.as_str()))
    }

    fn take_in(&mut self, other: Self) {
        let (file, share) = (&mut self.file, other.file);
        file.requests += share.requests;
        for data in share.files {
            if !file.files.contains(&data) {
                file.files.push(data);
            }
        }
        file.started = file.started.min(share.started);
        file.finished = file.finished.max(share.finished);
        file.completed &= share.completed;
        self.shares.extend(other.shares);
        self.rows.extend(other.rows);
        self.moments.extend(other.moments);
    }

    /// The pass that the headline figures are of. A run that learns: the last one, after all learning, that holds as
    /// many rows as any (one that was cut short would compare other requests). Any other gives the same answers in each
    /// pass, and only in the first one are its prompts new: later ones find their own beginning in KV memory.
    #[must_use]
    pub fn headline_pass(&self) -> u32 {
        let mut rows: BTreeMap<u32, usize> = BTreeMap::new();
        for row in &self.rows {
            *rows.entry(row.pass).or_default() += 1;
        }
        if !self.learns() {
            return rows.into_keys().next().unwrap_or(1);
        }
        rows.into_iter().max_by_key(|(pass, count)| (*count, *pass)).map_or(1, |(pass, _)| pass)
    }

    /// The last pass that has rows.
    #[must_use]
    pub fn passes(&self) -> u32 {
        self.rows.iter().map(|row| row.pass).max().unwrap_or(1)
    }

    /// True if a later pass may answer otherwise: the policy learns, or the cache remembers.
    fn learns(&self) -> bool {
        let remembers = self.file.command.windows(2).any(|words| words == ["--cache", "on"]);
        remembers || self.file.policy == LEARNS
    }

    #[must_use]
    pub fn sets(&self) -> BTreeSet<&str> {
        self.rows.iter().map(|row| row.set.as_str()).collect()
    }
}

pub(super) fn load(dirs: &[PathBuf]) -> anyhow::Result<Vec<Run>> {
    let mut runs: Vec<(&PathBuf, Run)> = Vec::with_capacity(dirs.len());
    for dir in dirs {
        let file = RunFile::read(dir)?;
        let rows = rows(&dir.join("rows.csv"), file.completed)?;
        let moments = moments(&dir.join(MOMENTS))?;
        let run = Run { label: file.label.clone(), shares: vec![file.clone()], file, rows, moments };
        match runs.iter_mut().find(|(_, other): &&mut (&PathBuf, Run)| other.may_take_in(&run)) {
            Some((_, other)) => other.take_in(run),
            None => runs.push((dir, run)),
        }
    }
    let mut uses: BTreeMap<String, usize> = BTreeMap::new();
    for (_, run) in &runs {
        *uses.entry(run.label.clone()).or_default() += 1;
    }
    let mut named = BTreeSet::new();
    let mut out = Vec::with_capacity(runs.len());
    for (dir, mut run) in runs {
        if uses.get(&run.label).is_some_and(|&count| count > 1) {
            let name = dir.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
            run.label = format!("{} ({name})", run.label);
        }
        if !named.insert(run.label.clone()) {
            bail!("{}: another run has the label {:?}", dir.display(), run.label);
        }
        for row in &mut run.rows {
            row.run.clone_from(&run.label);
        }
        out.push(run);
    }
    Ok(out)
}

/// The last line of a killed run may be cut; anywhere else that is an error.
fn rows(path: &Path, completed: bool) -> anyhow::Result<Vec<Row>> {
    let mut reader = csv::Reader::from_path(path).with_context(|| format!("read {}", path.display()))?;
    let mut rows = Vec::new();
    let mut records = reader.deserialize::<Row>().peekable();
    while let Some(record) = records.next() {
        match record {
            Ok(row) => rows.push(row),
            Err(error) if !completed && records.peek().is_none() => {
                warn!(file = %path.display(), %error, "the last row is cut and left out");
            }
            Err(error) => return Err(error).with_context(|| format!("read {}", path.display())),
        }
    }
    Ok(rows)
}

fn moments(path: &Path) -> anyhow::Result<Vec<Moment>> {
    if !path.exists() {
        return Ok(Vec::new());
    }
    let mut reader = csv::Reader::from_path(path).with_context(|| format!("read {}", path.display()))?;
    let read = reader.deserialize().collect::<Result<_, _>>();
    read.with_context(|| format!("read {}", path.display()))
}

/// All rows of all runs in one file.
pub(super) fn merged(runs: &[Run]) -> anyhow::Result<Vec<u8>> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    for row in runs.iter().flat_map(|run| &run.rows) {
        writer.serialize(row)?;
    }
    Ok(writer.into_inner()?)
}
