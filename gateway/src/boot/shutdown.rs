//! The end: nothing new is taken on, what runs is drained, what was learned is kept.

use std::time::Duration;

use anyhow::Context;
use tokio::signal::unix::{SignalKind, signal as on_signal};
use tokio::task::{JoinHandle, spawn_blocking};

use super::timers;
use crate::state::SharedState;

/// For what was ended to notice it.
const AFTER_ABORT: Duration = Duration::from_secs(2);
/// The shell's status for a program that SIGINT ended.
const INTERRUPTED: i32 = 130;
/// "File size limit exceeded", on every Linux.
#[cfg(target_os = "linux")]
const SIGXFSZ: i32 = 25;

/// Waits for SIGTERM or SIGINT. A second one ends the process at once.
pub async fn signal() -> anyhow::Result<()> {
    let mut terminate = on_signal(SignalKind::terminate()).context("SIGTERM cannot be handled")?;
    let mut interrupt = on_signal(SignalKind::interrupt()).context("SIGINT cannot be handled")?;
    let name = tokio::select! {
        _ = terminate.recv() => "SIGTERM",
        _ = interrupt.recv() => "SIGINT",
    };
    tracing::info!(signal = name, "shutting down; once more ends it at once");
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        std::process::exit(INTERRUPTED);
    });
    Ok(())
}

/// A write over a limit of size is to fail like one to a full disk; by default the system ends the process for it.
pub fn survive_full_disks() -> anyhow::Result<()> {
    #[cfg(target_os = "linux")]
    drop(on_signal(SignalKind::from_raw(SIGXFSZ)).context("SIGXFSZ cannot be handled")?);
    Ok(())
}

pub async fn drain(state: &SharedState, serving: JoinHandle<()>) {
    state.shutdown.cancel();
    if serving.await.is_err() {
        tracing::error!("the accept loop ended in a panic");
    }
    state.tasks.close();
    let limit = state.config().server.drain_timeout;
    if tokio::time::timeout(limit, state.tasks.wait()).await.is_err() {
        tracing::warn!(left = state.tasks.len(), "not all answers ended in time; they are cut off");
        state.abort.cancel();
        let _ = tokio::time::timeout(AFTER_ABORT, state.tasks.wait()).await;
    }
    let kept = state.clone();
    let keep = spawn_blocking(move || {
        timers::flush(&kept);
        timers::save_router(&kept);
        kept.desk.close();
    });
    if keep.await.is_err() {
        tracing::error!("keeping what was learned ended in a panic");
    }
    tracing::info!("ended");
}
