use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use tracing::warn;

use crate::trace::{Row, RunFile};

/// One traced run. Rows carry the run's label, which is unique within a report.
#[derive(Debug, Clone)]
pub struct Run {
    pub label: String,
    pub file: RunFile,
    pub rows: Vec<Row>,
}

impl Run {
    /// The tier that costs most: an answer from any other one was offloaded.
    #[must_use]
    pub fn dearest(&self) -> Option<&str> {
        self.file.tiers.iter().max_by(|a, b| a.cost.total_cmp(&b.cost)).map(|tier| tier.name.as_str())
    }

    #[must_use]
    pub fn last_pass(&self) -> u32 {
        self.rows.iter().map(|row| row.pass).max().unwrap_or(1)
    }

    #[must_use]
    pub fn sets(&self) -> BTreeSet<&str> {
        self.rows.iter().map(|row| row.set.as_str()).collect()
    }
}

pub(super) fn load(dirs: &[PathBuf]) -> anyhow::Result<Vec<Run>> {
    let mut runs = Vec::with_capacity(dirs.len());
    for dir in dirs {
        let file = RunFile::read(dir)?;
        let rows = rows(&dir.join("rows.csv"), file.completed)?;
        runs.push((dir, Run { label: file.label.clone(), file, rows }));
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

/// All rows of all runs in one file.
pub(super) fn merged(runs: &[Run]) -> anyhow::Result<Vec<u8>> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    for row in runs.iter().flat_map(|run| &run.rows) {
        writer.serialize(row)?;
    }
    Ok(writer.into_inner()?)
}
