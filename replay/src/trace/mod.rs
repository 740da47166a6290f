//! Sends recorded requests under a named policy and keeps what came back, one CSV row a request.
//!
//! With recorded arrival times the loop is open: a request is sent when its time comes, whether or not earlier ones
//! have been answered, as real users do; how late it was sent is recorded. Without them the loop is closed: one
//! request at a time, which measures a single user and never a queue.

mod ask;
mod gateway_facts;
mod machine;
mod pass;
mod row;
mod run_file;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, bail};
use tokio_util::sync::CancellationToken;
use tracing::{error, info};

use crate::data::arrivals::Arrivals;
use crate::data::requests::Request;
use crate::gateway::Gateway;

pub use ask::Asking;
pub use row::{AnswerRow, Row, RowWriter};
pub use run_file::{DataFile, Machine, RunFile};

/// The policy that answers with what is stored.
const REUSE: &str = "reuse";

/// One run: every request, `passes` times, under one policy.
#[derive(Debug)]
pub struct Trace {
    pub policy: String,
    /// Names the run in reports; the policy, unless told otherwise.
    pub label: String,
    pub passes: u32,
    /// In the order in which they are sent.
    pub requests: Vec<Request>,
    /// As many as requests. `None`: closed loop.
    pub arrivals: Option<Arrivals>,
    /// At most so many requests in flight: in a closed loop its clients. With arrivals, a request that has to wait for
    /// another to end is late, and recorded as such.
    pub concurrency_cap: usize,
    pub asking: Asking,
    pub out: PathBuf,
    /// What run.json says beyond what this run finds out itself.
    pub run_file: RunFile,
}

/// How a run ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Summary {
    pub rows: usize,
    pub errors: usize,
    pub interrupted: bool,
}

/// Runs until done or cancelled. The policy that was set before is set again in either case, and on errors.
pub async fn run(gateway: &Gateway, mut trace: Trace, cancel: &CancellationToken) -> anyhow::Result<Summary> {
    // `no-cache` forbids every stored answer, the nearest one too: the policy would ask the large tier and be measured
    // under the wrong name.
    trace.asking.exact_reuse |= trace.policy == REUSE;
    if let Some(arrivals) = &trace.arrivals
        && arrivals.times().len() != trace.requests.len()
    {
        bail!("{} requests need as many arrivals, not {}", trace.requests.len(), arrivals.times().len());
    }
    let mut run_file = trace.run_file.clone();
    gateway_facts::fill(gateway, &mut run_file).await.context("ask the gateway about itself")?;
    let mut writer = RowWriter::create(&trace.out)?;
    run_file.write(&trace.out)?;

    let set = gateway.set_policy(&trace.policy).await.context("set the policy")?;
    info!(policy = set.policy, previous = set.previous, "policy set");
    let outcome = passes(gateway, &trace, &mut writer, cancel).await;
    let restored = restore(gateway, set.previous.as_deref()).await;

    let summary = outcome?;
    run_file.finish(!summary.interrupted);
    run_file.write(&trace.out)?;
    restored?;
    Ok(summary)
}

async fn passes(
    gateway: &Gateway,
    trace: &Trace,
    writer: &mut RowWriter,
    cancel: &CancellationToken,
) -> anyhow::Result<Summary> {
    let mut summary = Summary { rows: 0, errors: 0, interrupted: false };
    for number in 1..=trace.passes {
        pass::run(gateway, trace, number, writer, cancel, &mut summary).await?;
        if cancel.is_cancelled() {
            summary.interrupted = true;
            break;
        }
    }
    Ok(summary)
}

/// Tries a few times: a gateway left under a baseline policy would go on answering badly.
async fn restore(gateway: &Gateway, previous: Option<&str>) -> anyhow::Result<()> {
    let Some(previous) = previous else { return Ok(()) };
    for attempt in 1..=3u32 {
        match gateway.set_policy(previous).await {
            Ok(_) => {
                info!(policy = previous, "policy restored");
                return Ok(());
            }
            Err(cause) if attempt == 3 => {
                error!(policy = previous, %cause, "the previous policy could not be restored: set it by hand");
                return Err(cause).context(format!("restore the policy {previous}"));
            }
            Err(_) => tokio::time::sleep(Duration::from_millis(200 * u64::from(attempt))).await,
        }
    }
    Ok(())
}
