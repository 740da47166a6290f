//! Exact scan beside graph at each of some sizes, as CSV: where the graph begins to pay.
//!
//! `cargo run --release -p reprise-cache --example retrieval -- --n 1000 --n 20000 [--ef 128] [--m 24] [--ef-construction 200] [--runs 3]`

use std::{env, error::Error};

use reprise_cache::{BenchConfig, IndexConfig, bench_retrieval};

fn main() -> Result<(), Box<dyn Error>> {
    let (mut sizes, mut efs, mut runs) = (Vec::new(), Vec::new(), 1_u64);
    let mut config = BenchConfig::default();
    let mut args = env::args().skip(1);
    while let Some(name) = args.next() {
        let value: usize = args.next().ok_or("an option has no value")?.parse()?;
        match name.as_str() {
            "--n" => sizes.push(value),
            "--ef" => efs.push(value),
            "--m" => config.index.connections = value,
            "--ef-construction" => config.index.ef_construction = value,
            "--k" => config.k = value,
            "--queries" => config.queries = value,
            "--dimensions" => config.dimensions = value,
            "--runs" => runs = value as u64,
            _ => return Err(format!("no such option: {name}").into()),
        }
    }
    if efs.is_empty() {
        efs.push(config.index.ef_search);
    }
    println!(
        "run,vectors,dimensions,k,ef_search,m,ef_construction,queries,exact_p50_us,exact_p99_us,graph_p50_us,graph_p99_us,graph_recall,graph_build_s"
    );
    for n in sizes {
        for ef_search in &efs {
            for run in 1..=runs {
                let index = IndexConfig { ef_search: *ef_search, ..config.index };
                let report = bench_retrieval(n, &BenchConfig { index, seed: run, ..config });
                println!(
                    "{run},{},{},{},{},{},{},{},{:.1},{:.1},{:.1},{:.1},{:.4},{:.2}",
                    report.vectors,
                    report.dimensions,
                    report.k,
                    report.ef_search,
                    report.connections,
                    report.ef_construction,
                    report.queries,
                    report.exact_p50_us,
                    report.exact_p99_us,
                    report.graph_p50_us,
                    report.graph_p99_us,
                    report.graph_recall,
                    report.graph_build_s,
                );
            }
        }
    }
    Ok(())
}
