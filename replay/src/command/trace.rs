use std::collections::HashSet;
use std::time::Duration;

use anyhow::ensure;
use reprise_replay::data::arrivals::Arrivals;
use reprise_replay::data::requests::Request;
use reprise_replay::data::sample::by_hash;
use reprise_replay::trace::{self, Asking, DataFile, RunFile};
use tokio_util::sync::CancellationToken;

use crate::cli::{Sampling, Trace};
use crate::exit;

pub async fn run(args: Trace, cancel: &CancellationToken) -> anyhow::Result<u8> {
    let requests = chosen(&args.sampling)?;
    let arrivals = match &args.arrivals {
        Some(path) => Some(Arrivals::read(path, args.arrivals_offset, requests.len(), args.scale)?),
        None => None,
    };
    let label = args.label.unwrap_or_else(|| args.policy.clone());
    let mut run_file = RunFile::new(
        &label,
        &args.policy,
        args.sampling.seed,
        args.passes,
        requests.len(),
        match &arrivals {
            Some(_) => "open".to_owned(),
            None if args.clients == 1 => "closed".to_owned(),
            None => format!("closed, {} clients", args.clients),
        },
    );
    run_file.command = RunFile::portable_command(std::env::args());
    for path in args.sampling.requests.iter().chain(&args.arrivals) {
        run_file.files.push(DataFile::of(path)?);
    }
    let gateway = args.connection.open()?;
    let out = args.out.clone();
    let trace = trace::Trace {
        policy: args.policy,
        label,
        passes: args.passes,
        requests,
        arrivals,
        concurrency_cap: if args.arrivals.is_some() { args.concurrency_cap } else { args.clients.into() },
        asking: Asking {
            max_tokens: args.max_tokens,
            cache: args.cache.into(),
            exact_reuse: args.exact_reuse,
            feedback: args.feedback,
            timeout: Duration::from_secs(args.timeout_s),
        },
        out: args.out,
        run_file,
    };
    let summary = trace::run(&gateway, trace, cancel).await?;
    println!("{} rows, {} errors: {}", summary.rows, summary.errors, out.display());
    Ok(if summary.interrupted {
        exit::INTERRUPTED
    } else if summary.errors > 0 {
        exit::REFUSED
    } else {
        0
    })
}

/// The sampled rows of all files in one mixed order, so that a policy that learns meets all tasks from the start.
fn chosen(sampling: &Sampling) -> anyhow::Result<Vec<Request>> {
    let files = super::pool::read(sampling)?;
    let sample = sampling.sample();
    let requests: Vec<Request> = files.into_iter().flat_map(|file| sample.split(file).0).collect();
    let ids: HashSet<&str> = requests.iter().map(|request| request.id.as_str()).collect();
    ensure!(ids.len() == requests.len(), "an id stands in more than one of the files");
    ensure!(!requests.is_empty(), "the sample is empty");
    Ok(by_hash(requests, sampling.seed, "order"))
}
