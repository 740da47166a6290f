//! What the traces showed: one self-contained HTML page, the merged raw rows, and the summary as CSV and Markdown.
//!
//! The headline figures of a policy that learns are those of its last pass; every pass has its own row in the summary. A request that failed counts as score 0: its user got nothing.

mod compare;
mod format;
mod html;
mod load;
mod measure;
mod over_time;
mod summary;
mod svg;
mod words;

use std::path::{Path, PathBuf};

use anyhow::Context;

pub use load::Run;
pub use measure::{Measured, Scope};
pub use summary::{Line, summarise};

/// The files of one report.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    pub html: PathBuf,
    pub rows_csv: PathBuf,
    pub summary_csv: PathBuf,
    pub summary_md: PathBuf,
}

/// Reads the runs in `dirs` and writes the report to `out`, its tables beside it under the same stem.
pub fn write(dirs: &[PathBuf], out: &Path, title: &str) -> anyhow::Result<Written> {
    let runs = load::load(dirs)?;
    let lines = summarise(&runs);
    let beside = |suffix: &str| {
        let stem = out.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
        out.with_file_name(format!("{stem}-{suffix}"))
    };
    let written = Written {
        html: out.to_owned(),
        rows_csv: beside("rows.csv"),
        summary_csv: beside("summary.csv"),
        summary_md: beside("summary.md"),
    };
    if let Some(parent) = out.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        std::fs::create_dir_all(parent).with_context(|| format!("create {}", parent.display()))?;
    }
    let save = |path: &Path, text: Vec<u8>| {
        std::fs::write(path, text).with_context(|| format!("write {}", path.display()))
    };
    save(&written.rows_csv, load::merged(&runs)?)?;
    save(&written.summary_csv, summary::csv(&lines)?)?;
    save(&written.summary_md, summary::markdown(&lines).into_bytes())?;
    save(&written.html, html::page(title, &runs, &lines).into_bytes())?;
    Ok(written)
}
