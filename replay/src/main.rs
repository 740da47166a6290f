//! `reprise-replay`: parse, build, run, map the outcome to an exit code.

mod cli;
mod command;

use std::io::IsTerminal;
use std::process::ExitCode;

use clap::Parser;
use tokio_util::sync::CancellationToken;
use tracing::warn;

/// Exit codes beyond 0 and 1, which scripts and timers may rely on.
mod exit {
    /// Some rows or lines were refused.
    pub const REFUSED: u8 = 2;
    /// Another curation holds the lease; nothing was done.
    pub const LEASE_HELD: u8 = 3;
    /// A signal ended the work before it was complete.
    pub const INTERRUPTED: u8 = 130;
}

fn main() -> ExitCode {
    let cli = cli::Cli::parse();
    let filter = tracing_subscriber::EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(false)
        .init();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("reprise-replay: start the runtime: {error}");
            return ExitCode::FAILURE;
        }
    };
    let outcome = runtime.block_on(async {
        let cancel = CancellationToken::new();
        tokio::spawn(cancel_on_signal(cancel.clone()));
        command::run(cli, cancel).await
    });
    match outcome {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            eprintln!("reprise-replay: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// The first signal asks for an orderly end; the second ends the process.
async fn cancel_on_signal(cancel: CancellationToken) {
    for count in 1.. {
        if let Err(error) = signal().await {
            warn!(%error, "signals cannot be waited for");
            return;
        }
        if count > 1 {
            std::process::exit(i32::from(exit::INTERRUPTED));
        }
        warn!("stopping; once more to stop at once");
        cancel.cancel();
    }
}

#[cfg(unix)]
async fn signal() -> std::io::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        interrupted = tokio::signal::ctrl_c() => interrupted,
        _ = terminate.recv() => Ok(()),
    }
}

#[cfg(not(unix))]
async fn signal() -> std::io::Result<()> {
    tokio::signal::ctrl_c().await
}
