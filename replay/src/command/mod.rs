//! From parsed arguments to work: one file per subcommand.

mod answers;
mod collect;
mod curate;
mod evict;
mod import;
mod learn;
mod policies;
mod pool;
mod report;
mod simulate;
mod trace;

use tokio_util::sync::CancellationToken;

use crate::cli::{Cli, Command};

/// Runs the subcommand; the value is the exit code.
pub async fn run(cli: Cli, cancel: CancellationToken) -> anyhow::Result<u8> {
    match cli.command {
        Command::Curate(args) => curate::run(args, &cancel).await,
        Command::Collect(args) => collect::run(*args, &cancel).await,
        Command::Answers(args) => answers::run(&args).await,
        Command::Evict(args) => evict::run(&args),
        Command::Learn(args) => learn::run(args).await,
        Command::Simulate(args) => simulate::run(&args),
        Command::Import(args) => import::run(args).await,
        Command::Trace(args) => trace::run(args, &cancel).await,
        Command::Pool(args) => pool::run(&args),
        Command::Policies(args) => policies::run(&args),
        Command::Report(args) => report::run(&args),
    }
}
