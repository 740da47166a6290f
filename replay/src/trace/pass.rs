use std::time::Duration;

use tokio::task::{JoinError, JoinSet};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::info;

use super::row::Asked;
use super::{RowWriter, Summary, Trace, ask};
use crate::gateway::Gateway;

/// Sends every request once. Rows are written as answers come in, so a killed run keeps what it has measured.
pub(super) async fn run(
    gateway: &Gateway,
    trace: &Trace,
    pass: u32,
    writer: &mut RowWriter,
    cancel: &CancellationToken,
    summary: &mut Summary,
) -> anyhow::Result<()> {
    let begin = Instant::now();
    // A closed loop is an open one in which nothing can be late; each of its clients is a slot.
    let slots = trace.concurrency_cap.max(1);
    let mut in_flight: JoinSet<Asked> = JoinSet::new();
    let mut finish = |ended: Result<Asked, JoinError>| -> anyhow::Result<()> {
        let asked = ended?;
        summary.rows += 1;
        summary.errors += usize::from(asked.failed());
        writer.write(&trace.label, &trace.policy, pass, &asked)?;
        if summary.rows.is_multiple_of(25) {
            info!(pass, done = summary.rows, errors = summary.errors, "progress");
        }
        Ok(())
    };

    for (index, request) in trace.requests.iter().enumerate() {
        let planned = trace.arrivals.as_ref().map(|arrivals| begin + arrivals.times()[index]);
        if let Some(planned) = planned {
            while Instant::now() < planned {
                tokio::select! {
                    () = cancel.cancelled() => return Ok(()),
                    () = tokio::time::sleep_until(planned) => {}
                    Some(ended) = in_flight.join_next() => finish(ended)?,
                }
            }
        }
        while in_flight.len() >= slots {
            tokio::select! {
                () = cancel.cancelled() => return Ok(()),
                Some(ended) = in_flight.join_next() => finish(ended)?,
            }
        }
        if cancel.is_cancelled() {
            return Ok(());
        }
        let lateness =
            planned.map_or(Duration::ZERO, |planned| Instant::now().saturating_duration_since(planned));
        let (gateway, request, asking) = (gateway.clone(), request.clone(), trace.asking.clone());
        in_flight.spawn(async move { ask::ask(&gateway, request, &asking, lateness).await });
    }
    loop {
        tokio::select! {
            () = cancel.cancelled() => return Ok(()),
            ended = in_flight.join_next() => match ended {
                Some(ended) => finish(ended)?,
                None => return Ok(()),
            },
        }
    }
}
