//! Open loop: requests go out at the times of a Poisson process, and a time counts from when its request was due.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use crate::http::{Connection, Target, check};

#[derive(Debug, clap::Args)]
pub struct Options {
    #[command(flatten)]
    target: Target,
    /// Requests a second.
    #[arg(long)]
    rate: f64,
    #[arg(long)]
    requests: usize,
    /// These are sent first and not counted.
    #[arg(long, default_value_t = 0)]
    warm_up: usize,
    /// Requests under way at once; beyond, a request that is due waits, and its time goes on.
    #[arg(long, default_value_t = 64)]
    connections: usize,
    #[arg(long)]
    stream: bool,
    /// With temperature 0, and so many different questions: from the second time on exact repeats.
    #[arg(long)]
    repeats: Option<usize>,
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// One line for each request.
    #[arg(long)]
    csv: Option<PathBuf>,
    /// The resident memory of this process, a line each 10,000 requests.
    #[arg(long, requires = "memory_csv")]
    memory_of: Option<u32>,
    #[arg(long)]
    memory_csv: Option<PathBuf>,
}

/// Of one request, in microseconds.
struct Sample {
    due: u64,
    late: u64,
    first: u64,
    total: u64,
    cache: String,
    failed: Option<String>,
}

const STACK: usize = 256 << 10;
const MEMORY_EVERY: usize = 10_000;

pub fn run(options: &Options) -> anyhow::Result<()> {
    let due = due(options);
    let (next, start) = (AtomicUsize::new(0), Instant::now() + Duration::from_millis(50));
    let memory = options.memory_of.zip(options.memory_csv.as_ref());
    let samples = thread::scope(|scope| {
        let workers: Vec<_> = (0..options.connections)
            .map(|_| {
                let (due, next) = (&due, &next);
                let work = move || worker(options, due, next, start);
                thread::Builder::new().stack_size(STACK).spawn_scoped(scope, work)
            })
            .collect::<Result<_, _>>()?;
        if let Some((process, path)) = memory {
            watch(process, path, &next, due.len())?;
        }
        let joined = workers.into_iter().map(|worker| worker.join());
        joined.collect::<Result<Vec<_>, _>>().map_err(|_| anyhow::anyhow!("a worker died"))
    })?;
    let mut samples: Vec<Sample> = samples.into_iter().flatten().collect();
    samples.sort_by_key(|sample| sample.due);
    tell(options, &samples, start.elapsed())
}

fn due(options: &Options) -> Vec<Duration> {
    let mut random = SmallRng::seed_from_u64(options.seed);
    let mut at = 0.0;
    let gap = |random: &mut SmallRng| -(1.0 - random.random::<f64>()).ln() / options.rate;
    (0..options.warm_up + options.requests)
        .map(|_| {
            at += gap(&mut random);
            Duration::from_secs_f64(at)
        })
        .collect()
}

fn worker(options: &Options, due: &[Duration], next: &AtomicUsize, start: Instant) -> Vec<Sample> {
    let mut samples = Vec::new();
    let mut connection = None;
    loop {
        let index = next.fetch_add(1, Relaxed);
        let Some(at) = due.get(index) else { return samples };
        let at = start + *at;
        thread::sleep(at.saturating_duration_since(Instant::now()));
        let sent = Instant::now();
        let mut first = sent;
        let outcome = exchange(options, index, &mut connection, &mut first);
        let ended = Instant::now();
        if outcome.is_err() {
            connection = None;
        }
        if index >= options.warm_up && options.csv.is_some() {
            let micros = |time: Instant| time.saturating_duration_since(at).as_micros() as u64;
            let (cache, failed) = match outcome {
                Ok(cache) => (cache, None),
                Err(error) => (String::new(), Some(format!("{error:#}"))),
            };
            let due = (at - start).as_micros() as u64;
            samples.push(Sample {
                due,
                late: micros(sent),
                first: micros(first),
                total: micros(ended),
                cache,
                failed,
            });
        }
    }
}

fn exchange(
    options: &Options,
    index: usize,
    kept: &mut Option<Connection>,
    first: &mut Instant,
) -> anyhow::Result<String> {
    let question = match options.repeats {
        Some(different) => format!("What is known of number {}?", index % different),
        None => format!("What is known of number {index} of series {}?", options.seed),
    };
    let request = options.target.request(&question, options.repeats.is_some(), options.stream);
    if kept.is_none() {
        *kept = Some(Connection::open(options.target.address)?);
    }
    let connection = kept.as_mut().context("no connection")?;
    connection.send(&request)?;
    let head = check(connection.head()?)?;
    let mut begun = false;
    connection.body(&head, |_| {
        if !std::mem::replace(&mut begun, true) {
            *first = Instant::now();
        }
    })?;
    Ok(head.cache)
}

fn watch(process: u32, path: &Path, next: &AtomicUsize, all: usize) -> anyhow::Result<()> {
    let mut out = BufWriter::new(File::create(path).with_context(|| format!("{}", path.display()))?);
    writeln!(out, "requests,rss_kib")?;
    let mut told = 0;
    while told <= all {
        thread::sleep(Duration::from_millis(20));
        if next.load(Relaxed).min(all) >= told {
            let status = std::fs::read_to_string(format!("/proc/{process}/status"))?;
            let rss = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
            writeln!(out, "{told},{}", rss.trim().trim_end_matches("kB").trim())?;
            out.flush()?;
            told += MEMORY_EVERY;
        }
    }
    Ok(())
}

fn tell(options: &Options, samples: &[Sample], took: Duration) -> anyhow::Result<()> {
    println!("{} requests in {:.1} s", options.requests, took.as_secs_f64());
    let Some(path) = &options.csv else { return Ok(()) };
    let mut out = BufWriter::new(File::create(path).with_context(|| format!("{}", path.display()))?);
    writeln!(out, "due_us,late_us,first_us,total_us,cache,ok")?;
    for Sample { due, late, first, total, cache, failed } in samples {
        writeln!(out, "{due},{late},{first},{total},{cache},{}", failed.is_none())?;
    }
    if let Some(error) = samples.iter().find_map(|sample| sample.failed.as_ref()) {
        println!("a request failed: {error}");
    }
    Ok(out.flush()?)
}
