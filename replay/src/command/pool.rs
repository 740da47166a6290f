use std::fs::File;
use std::io::{BufWriter, Write};

use anyhow::{Context, ensure};
use reprise_replay::data::pairs;
use reprise_replay::data::requests::Request;
use reprise_replay::pool;

use crate::cli::{Pool, Sampling};

pub fn run(args: &Pool) -> anyhow::Result<u8> {
    ensure!((0.0..=1.0).contains(&args.quality), "--quality must lie in [0, 1]");
    let files = read(&args.sampling)?;
    let (pairs, counts) = pool::build(files, &args.sampling.sample(), args.per_file, args.quality);
    let file = File::create(&args.out).with_context(|| format!("create {}", args.out.display()))?;
    let mut writer = BufWriter::new(file);
    for pair in &pairs {
        pairs::write(&mut writer, pair)?;
    }
    writer.flush()?;
    println!(
        "{} pairs written; left out: {} sampled, {} equal to a sampled one, {} repeated, {} without a reference",
        counts.written, counts.sampled, counts.leaked, counts.repeated, counts.unanswered
    );
    Ok(0)
}

/// The rows of every file, in the order of the arguments.
pub fn read(sampling: &Sampling) -> anyhow::Result<Vec<Vec<Request>>> {
    sampling.requests.iter().map(|path| Ok(Request::read(path)?)).collect()
}
