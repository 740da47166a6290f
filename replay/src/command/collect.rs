use std::collections::HashSet;
use std::fs::File;
use std::io::BufReader;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, anyhow, bail, ensure};
use reprise_cache::selection::UtilityModel;
use reprise_replay::data::pairs::{self, Pair};
use reprise_replay::harness::collect::{self, Collection, Limits};
use reprise_replay::pool;
use reprise_replay::trace::DataFile;
use tokio_util::sync::CancellationToken;

use crate::cli::Collect;
use crate::exit;

pub async fn run(args: Collect, cancel: &CancellationToken) -> anyhow::Result<u8> {
    let sample = args.sampling.sample();
    let files = super::pool::read(&args.sampling)?;
    let (pairs, counts) = match &args.pairs {
        Some(path) => (read_pairs(path)?, pool::Counts::default()),
        None => pool::build(files.clone(), &sample, Some(args.pool_per_file), 1.0),
    };
    let requests: Vec<_> = files.into_iter().flat_map(|file| sample.split(file).0).collect();
    let ids: HashSet<&str> = requests.iter().map(|request| request.id.as_str()).collect();
    ensure!(ids.len() == requests.len(), "an id stands in more than one of the files");
    println!(
        "{} requests, a pool of {}; left out of it: {} equal to a request, {} repeated",
        requests.len(),
        pairs.len(),
        counts.leaked,
        counts.repeated
    );
    let model = args.model.as_deref().map(read_model).transpose()?;
    let collection = Collection {
        folder: args.table,
        tier: args.tier,
        model_hash: match (args.model_hash, &args.weights) {
            (Some(hash), _) => hash,
            (None, Some(path)) => DataFile::of(path)?.sha256,
            (None, None) => bail!("--weights or --model-hash is needed"),
        },
        embedder: args.embedder,
        requests,
        split: args.split,
        pool: args.pool,
        pairs,
        arms: args.arms,
        model,
        max_tokens: Limits { default: args.max_tokens, of: args.max_tokens_of.into_iter().collect() },
        seed: args.sampling.seed,
        concurrency: args.concurrency,
        timeout: Duration::from_secs(args.timeout_s),
    };
    let gateway = args.connection.open()?;
    let done = collect::collect(&gateway, &collection, cancel).await?;
    println!(
        "{} generated, {} known, {} failed; {} times an example was kept out by the leakage guard; {} outcomes in all",
        done.generated, done.known, done.failed, done.leaked, done.outcomes
    );
    Ok(if done.interrupted {
        exit::INTERRUPTED
    } else if done.failed > 0 {
        exit::REFUSED
    } else {
        0
    })
}

/// All of them: a pool with a hole in it would be another pool.
fn read_pairs(path: &Path) -> anyhow::Result<Vec<Pair>> {
    let file = File::open(path).with_context(|| format!("open {}", path.display()))?;
    pairs::read(BufReader::new(file))
        .map(|line| {
            let line = line?;
            let at = || format!("{}:{}", path.display(), line.number);
            line.pair.map_err(|why| anyhow!("{}: {why}", at()))
        })
        .collect()
}

pub fn read_model(path: &Path) -> anyhow::Result<UtilityModel> {
    let text = std::fs::read(path).with_context(|| format!("read {}", path.display()))?;
    serde_json::from_slice(&text).with_context(|| format!("{} is no utility model", path.display()))
}
