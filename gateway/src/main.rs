//! The gateway's entry: parse, run, map the error to an exit code.

mod admin;
mod allocator;
mod auth;
mod boot;
mod charge;
mod chat;
mod command;
mod completions;
mod config;
mod console;
mod decisions;
mod embeddings;
mod error;
mod feedback;
#[cfg(test)]
mod fuzz_tests;
mod http;
mod id;
#[cfg(test)]
mod isolation_tests;
mod metrics;
mod openapi;
mod process;
mod responses;
mod state;
mod telemetry;
#[cfg(test)]
mod testing;

use std::process::ExitCode;

use clap::Parser;

#[global_allocator]
static ALLOCATOR: allocator::Counted = allocator::Counted;

/// Something went wrong while running.
const FAILED: u8 = 1;
/// Arguments or configuration are wrong; clap uses the same.
const MISUSED: u8 = 2;

fn main() -> ExitCode {
    let command = command::Command::parse();
    match command.run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("reprise: {error:#}");
            let misused = error.chain().any(|cause| cause.is::<config::ConfigError>());
            ExitCode::from(if misused { MISUSED } else { FAILED })
        }
    }
}
