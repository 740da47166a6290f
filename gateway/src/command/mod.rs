//! The command line.

mod bench;
mod config;
mod keys;
mod models;
mod serve;
mod store;
mod upcycle;

use std::io::IsTerminal;

use clap::{Parser, Subcommand};

/// An OpenAI-compatible LLM gateway that remembers what it answered.
#[derive(Debug, Parser)]
#[command(name = "reprise", version, arg_required_else_help = true)]
pub struct Command {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Serve the API, the console and the metrics.
    Serve(serve::Serve),
    /// Fetch models, or list those that can be fetched.
    #[command(subcommand)]
    Models(models::Models),
    /// Check or print a configuration.
    #[command(subcommand)]
    Config(config::ConfigCommand),
    /// Describe the metrics.
    #[command(subcommand)]
    Metrics(MetricsCommand),
    /// Make, list, rotate, limit and revoke the keys of a running gateway's clients.
    Keys(keys::Keys),
    /// Look into the store of a gateway that is not running.
    #[command(subcommand)]
    Store(store::StoreCommand),
    /// Print the OpenAPI document of everything that is served.
    Openapi,
    /// Measure a part of the gateway on this machine.
    #[command(subcommand)]
    Bench(bench::Bench),
}

#[derive(Debug, Subcommand)]
enum MetricsCommand {
    /// Print every metric with its type, labels, unit and meaning, as Markdown.
    Reference,
}

impl Command {
    pub fn run(self) -> anyhow::Result<()> {
        match self.action {
            Action::Serve(serve) => serve.run(),
            Action::Models(models) => models.run(),
            Action::Config(config) => config.run(),
            Action::Metrics(MetricsCommand::Reference) => {
                print!("{}", crate::metrics::reference());
                Ok(())
            }
            Action::Keys(keys) => keys.run(),
            Action::Store(store) => store.run(),
            Action::Openapi => {
                print!("{}", crate::openapi::text());
                Ok(())
            }
            Action::Bench(bench) => bench.run(),
        }
    }
}

/// To standard error, so that standard output is the command's own. `REPRISE_LOG` filters, `info` by default.
fn log(json: bool) {
    let filter = tracing_subscriber::EnvFilter::try_from_env("REPRISE_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info"));
    let colours = std::io::stderr().is_terminal();
    let subscriber =
        tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(colours);
    if json {
        subscriber.json().init();
    } else {
        subscriber.init();
    }
}
