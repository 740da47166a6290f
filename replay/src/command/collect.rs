use std::collections::HashSet;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, ensure};
use reprise_cache::selection::UtilityModel;
use reprise_replay::harness::collect::{self, Collection};
use reprise_replay::pool;
use reprise_replay::trace::DataFile;
use tokio_util::sync::CancellationToken;

use crate::cli::Collect;
use crate::exit;

pub async fn run(args: Collect, cancel: &CancellationToken) -> anyhow::Result<u8> {
    let sample = args.sampling.sample();
    let files = super::pool::read(&args.sampling)?;
    let (pairs, counts) = pool::build(files.clone(), &sample, Some(args.pool_per_file), 1.0);
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
        model_hash: DataFile::of(&args.weights)?.sha256,
        embedder: args.embedder,
        requests,
        pairs,
        arms: args.arms,
        model,
        max_tokens: args.max_tokens,
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

pub fn read_model(path: &Path) -> anyhow::Result<UtilityModel> {
    let text = std::fs::read(path).with_context(|| format!("read {}", path.display()))?;
    serde_json::from_slice(&text).with_context(|| format!("{} is no utility model", path.display()))
}
