use std::fs::File;
use std::io::{BufRead, BufReader};

use anyhow::Context;
use indicatif::{ProgressBar, ProgressStyle};
use reprise_replay::import;

use crate::cli::Import;
use crate::exit;

/// Refused lines named before the rest are only counted.
const NAMED: usize = 50;

pub async fn run(args: Import) -> anyhow::Result<u8> {
    let gateway = args.connection.open()?;
    let open = || File::open(&args.file).with_context(|| format!("open {}", args.file.display()));
    let lines = BufReader::new(open()?).lines().count();
    let progress = ProgressBar::new(lines as u64)
        .with_style(ProgressStyle::with_template("{bar:32} {pos}/{len} {per_sec} eta {eta}")?);
    let report = import::run(&gateway, &args.tenant, BufReader::new(open()?), &progress).await?;
    progress.finish_and_clear();

    for (line, reason) in report.refused.iter().take(NAMED) {
        eprintln!("{}:{line}: refused: {reason}", args.file.display());
    }
    if report.refused.len() > NAMED {
        eprintln!("and {} more", report.refused.len() - NAMED);
    }
    println!(
        "tenant {}: {} inserted, {} merged, {} refused",
        args.tenant,
        report.inserted,
        report.merged,
        report.refused.len()
    );
    Ok(if report.refused.is_empty() || args.lenient { 0 } else { exit::REFUSED })
}
