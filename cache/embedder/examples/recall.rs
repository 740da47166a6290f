//! Exact search beside inverted lists over the embeddings of real texts, as CSV.
//!
//! `cargo run --release -p reprise-embedder --example recall -- FOLDER QUERIES FILE.jsonl...`: the model's folder, how many of
//! the texts are searched for instead of held, and files whose rows have a `text` or a `prompt`.

use std::{
    collections::BTreeSet,
    env, fs,
    hash::{DefaultHasher, Hash, Hasher},
    path::Path,
};

use anyhow::{Context, ensure};
use reprise_cache::{BenchConfig, IndexConfig, RetrievalReport, UnitVector, bench_vectors};
use reprise_embedder::{EmbedderConfig, MiniLm};
use serde_json::Value;

/// Texts that are embedded at once.
const AT_ONCE: usize = 64;

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let mut arguments = env::args().skip(1);
    let folder = arguments.next().context("no folder of the model")?;
    let queries: usize = arguments.next().context("no number of queries")?.parse()?;
    let mut texts = BTreeSet::new();
    for file in arguments {
        for line in fs::read_to_string(&file).with_context(|| file.clone())?.lines() {
            let row: Value = serde_json::from_str(line)?;
            texts.extend(row["text"].as_str().or(row["prompt"].as_str()).map(str::to_owned));
        }
    }
    ensure!(texts.len() > queries, "{} distinct texts", texts.len());
    // In an order that has nothing to do with what they say.
    let mut texts: Vec<String> = texts.into_iter().collect();
    texts.sort_by_key(|text| {
        let mut hasher = DefaultHasher::new();
        text.hash(&mut hasher);
        hasher.finish()
    });
    let embedder = MiniLm::load(Path::new(&folder), &EmbedderConfig::default())?;
    let mut vectors: Vec<UnitVector> = Vec::with_capacity(texts.len());
    for some in texts.chunks(AT_ONCE) {
        vectors.extend(embedder.embed_all(&some.iter().map(String::as_str).collect::<Vec<_>>()).await?);
    }
    let (queries, held) = vectors.split_at(queries);
    println!("{}", RetrievalReport::CSV_HEADER);
    // At least one in `probe_one_in` is read.
    for (k, probes) in [(10, 24), (10, 32), (10, 48), (10, 64), (10, 96), (32, 32), (32, 64)] {
        let index = IndexConfig { probes, ..IndexConfig::default() };
        let config = BenchConfig { k, queries: queries.len(), index, ..BenchConfig::default() };
        println!("{}", bench_vectors(held, queries, &config).csv());
    }
    Ok(())
}
