//! Times `MiniLm` on ready texts, tokenisation and the hop to its threads included.
//!
//! Reads commands from stdin, one a line, so that a script can take turns between this and other implementations:
//! `one N` embeds the first text N times, `batch N` all texts together N times; prints the microseconds of each, space
//! separated, on one line. `vector` prints the first text's vector.
//!
//! `bench_embed FOLDER THREADS TEXTS_FILE` (a text a line)

use std::{
    env, fs,
    io::{Write, stdin, stdout},
    path::Path,
    time::Instant,
};

use anyhow::{Context, bail};
use reprise_cache::Embedder;
use reprise_embedder::{EmbedderConfig, MiniLm};

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [folder, threads, texts] = arguments.as_slice() else {
        bail!("usage: bench_embed FOLDER THREADS TEXTS_FILE");
    };
    let texts = fs::read_to_string(texts).with_context(|| texts.clone())?;
    let texts: Vec<&str> = texts.lines().collect();
    let first = texts.first().context("no texts")?;
    let config =
        EmbedderConfig { threads: 1, compute_threads: threads.parse()?, ..EmbedderConfig::default() };
    let embedder = MiniLm::load(Path::new(folder), &config)?;
    println!("ready");
    for line in stdin().lines() {
        let line = line?;
        let mut words = line.split_whitespace();
        let (command, count) = (words.next().unwrap_or(""), words.next().unwrap_or("1").parse::<usize>()?);
        let mut times = Vec::with_capacity(count);
        for _ in 0..count {
            let begin = Instant::now();
            match command {
                "one" => drop(embedder.embed(first).await?),
                "batch" => drop(embedder.embed_all(&texts).await?),
                "vector" => {
                    let vector = embedder.embed(first).await?;
                    println!(
                        "{}",
                        vector.as_slice().iter().map(f32::to_string).collect::<Vec<_>>().join(" ")
                    );
                    continue;
                }
                _ => bail!("no such command: {command}"),
            }
            times.push(begin.elapsed().as_micros().to_string());
        }
        if command != "vector" {
            println!("{}", times.join(" "));
        }
        stdout().flush()?;
    }
    Ok(())
}
