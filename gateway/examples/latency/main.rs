//! What a gateway adds to the time of a request: an upstream that answers as fast as can be, and a client that measures.
//! Both stand on blocking sockets and one thread for each connection: no runtime of their own takes time from what is
//! measured. `gateway/bench/latency` runs them.
#![expect(clippy::disallowed_methods, reason = "threads that block: there is no executor here")]

mod http;
mod requests;
mod streams;
mod upstream;

use clap::Parser;

#[derive(Debug, Parser)]
enum Command {
    /// Answers every chat request with the same words, streamed if that was asked for.
    Upstream(upstream::Options),
    /// Sends requests at a fixed rate, whether or not earlier ones were answered, and writes a CSV of their times.
    Requests(requests::Options),
    /// Holds streams open and writes a CSV of how long each word took from the upstream.
    Streams(streams::Options),
}

fn main() -> anyhow::Result<()> {
    match Command::parse() {
        Command::Upstream(options) => upstream::run(&options),
        Command::Requests(options) => requests::run(&options),
        Command::Streams(options) => streams::run(&options),
    }
}
