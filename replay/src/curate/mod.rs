//! Curation: asks the best tier again where an example's answers cost the most, and keeps the better answer.
//!
//! Examples are taken by replay gain (IC-Cache, arXiv 2501.12689): each use of example e adds
//! `G(e) = (1 - quality) * cost` to a moving average the gateway keeps. The job goes on while an example's expected
//! saving is above what its replay costs, and stops when the pool is busy, the budget is spent or the lease is lost.
//! It works at batch priority, past the cache, and one gateway has one curation at a time.

mod ask;
pub mod author;
mod idle;
pub mod journal;
pub mod judge;
mod lease;
mod pass;
mod report;
mod worth;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;
use tokio_util::sync::CancellationToken;

use crate::gateway::{Gateway, GatewayError};

pub use author::{Author, Written};
pub use judge::Judge;
pub use pass::{Planned, plan};
pub use report::{Improvement, RunReport, Stop};
pub use worth::{Worth, worth};

/// How a curation goes about its work.
#[derive(Debug, Clone)]
pub struct Curation {
    pub tenants: Vec<String>,
    /// Answers asked for at `temperature`; one more is asked for at 0.
    pub samples: u32,
    pub temperature: f64,
    pub max_tokens: u32,
    /// Tokens of one run, prompt and completion, judge included.
    pub budget_tokens: Option<u64>,
    /// Expected reuses are counted over so many hours.
    pub horizon_h: f64,
    /// Examples with so many replays are left alone.
    pub max_replays: u32,
    /// Examples of one tenant that are looked at.
    pub max_candidates: usize,
    /// Also replay answers that no tier of the pool wrote: imported references, corrections by people.
    pub replace_imported: bool,
    /// How long to wait for an idle pool before stopping.
    pub idle_wait: Duration,
    pub lease_ttl: Duration,
    /// A name for people.
    pub holder: String,
    pub state_dir: PathBuf,
    pub request_timeout: Duration,
}

#[derive(Debug, Error)]
pub enum CurateError {
    /// Another curation is at work; the message is the gateway's and names it.
    #[error("{0}")]
    LeaseHeld(String),
    #[error(transparent)]
    Gateway(#[from] GatewayError),
    #[error("journal {}: {source}", path.display())]
    Journal { path: PathBuf, source: std::io::Error },
}

/// One run: takes the lease, works until a reason to stop, reports to the gateway, gives the lease back.
pub async fn run(
    gateway: &Gateway,
    curation: &Curation,
    judge: &Arc<dyn Judge>,
    cancel: &CancellationToken,
) -> Result<RunReport, CurateError> {
    let lease = lease::Lease::take(gateway, &curation.holder, curation.lease_ttl).await?;
    let worked = pass::run(gateway, curation, judge.as_ref(), &lease, cancel).await;
    // The report goes out while the lease is still held, so that runs are told in the order in which they worked.
    let reported = match &worked {
        Ok(work) => gateway.report_run(&work.report.for_gateway()).await.map_err(CurateError::from),
        Err(_) => Ok(()),
    };
    lease.release().await;
    let mut work = worked?;
    reported?;
    work.journal.reported(work.report.stopped_because)?;
    Ok(work.report)
}
