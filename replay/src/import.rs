//! Sends known good pairs to the gateway in batches. A bad line never stops the others; each is named.

use std::io::BufRead;

use anyhow::Context;
use indicatif::ProgressBar;

use crate::data::pairs::{self, Pair};
use crate::gateway::admin::{Imported, NewExample};
use crate::gateway::{Gateway, GatewayError};

/// The gateway takes no more a call.
const BATCH: usize = 256;
/// Attempts for a batch that the gateway is too busy for.
const ATTEMPTS: u32 = 6;

/// What became of the lines.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    pub inserted: usize,
    pub merged: usize,
    /// Line number and reason, in the order of the file.
    pub refused: Vec<(usize, String)>,
}

/// Imports every good line of `reader` for `tenant`.
pub async fn run(
    gateway: &Gateway,
    tenant: &str,
    reader: impl BufRead,
    progress: &ProgressBar,
) -> anyhow::Result<Report> {
    let mut report = Report::default();
    let mut batch: Vec<(usize, Pair)> = Vec::with_capacity(BATCH);
    for line in pairs::read(reader) {
        let line = line.context("read the file")?;
        match line.pair {
            Ok(pair) => batch.push((line.number, pair)),
            Err(reason) => report.refused.push((line.number, reason)),
        }
        if batch.len() == BATCH {
            send(gateway, tenant, &mut batch, &mut report, progress).await?;
        }
    }
    if !batch.is_empty() {
        send(gateway, tenant, &mut batch, &mut report, progress).await?;
    }
    report.refused.sort_by_key(|(line, _)| *line);
    Ok(report)
}

async fn send(
    gateway: &Gateway,
    tenant: &str,
    batch: &mut Vec<(usize, Pair)>,
    report: &mut Report,
    progress: &ProgressBar,
) -> anyhow::Result<()> {
    let examples: Vec<NewExample<'_>> = batch
        .iter()
        .map(|(_, pair)| NewExample {
            request: &pair.request,
            answer: &pair.answer,
            instructions: pair.instructions.as_deref(),
            quality: pair.quality,
            source: pair.source.as_deref(),
        })
        .collect();
    let imported = patiently(gateway, tenant, &examples).await.with_context(|| {
        let (first, last) = (batch.first().map_or(0, |b| b.0), batch.last().map_or(0, |b| b.0));
        format!(
            "lines {first} to {last} (before them: {} inserted, {} merged)",
            report.inserted, report.merged
        )
    })?;
    report.inserted += imported.inserted;
    report.merged += imported.merged;
    for refusal in imported.refused {
        let line = batch.get(refusal.index).map_or(0, |(line, _)| *line);
        report.refused.push((line, refusal.reason));
    }
    progress.inc(batch.len() as u64);
    batch.clear();
    Ok(())
}

/// Live traffic goes first: a gateway that has no room for a batch is asked again when it says.
async fn patiently(
    gateway: &Gateway,
    tenant: &str,
    examples: &[NewExample<'_>],
) -> Result<Imported, GatewayError> {
    let mut attempt = 1;
    loop {
        match gateway.import(tenant, examples).await {
            Err(error) if attempt < ATTEMPTS => match error.wait_and_retry() {
                Some(wait) => tokio::time::sleep(wait).await,
                None => return Err(error),
            },
            done => return done,
        }
        attempt += 1;
    }
}
