//! Exact search beside inverted lists at each of some sizes, as CSV: where the lists begin to pay, and what they miss.
//!
//! `cargo run --release -p reprise-cache --example retrieval -- --n 1000 --n 20000 [--probes 32] [--per-root 4] [--graph-from N] [--k 10] [--runs 3]`

use std::{env, error::Error};

use reprise_cache::{BenchConfig, IndexConfig, RetrievalReport, bench_retrieval};

fn main() -> Result<(), Box<dyn Error>> {
    let (mut sizes, mut probes, mut runs) = (Vec::new(), Vec::new(), 1_u64);
    let mut config = BenchConfig::default();
    let mut args = env::args().skip(1);
    while let Some(name) = args.next() {
        let value: usize = args.next().ok_or("an option has no value")?.parse()?;
        match name.as_str() {
            "--n" => sizes.push(value),
            "--probes" => probes.push(value),
            "--per-root" => config.index.lists_per_root = value as f32,
            "--graph-from" => config.index.graph_from = value,
            "--ef" => config.index.ef_search = value,
            "--k" => config.k = value,
            "--queries" => config.queries = value,
            "--dimensions" => config.dimensions = value,
            "--runs" => runs = value as u64,
            _ => return Err(format!("no such option: {name}").into()),
        }
    }
    if probes.is_empty() {
        probes.push(config.index.probes);
    }
    println!("run,{}", RetrievalReport::CSV_HEADER);
    for n in sizes {
        for probes in &probes {
            for run in 1..=runs {
                let index = IndexConfig { probes: *probes, ..config.index };
                println!("{run},{}", bench_retrieval(n, &BenchConfig { index, seed: run, ..config }).csv());
            }
        }
    }
    Ok(())
}
