//! Exact scan beside clusters at each of some sizes, as CSV: where clusters begin to pay, and what they cost.
//!
//! `cargo run --release -p reprise-cache --example retrieval -- --n 1000 --n 100000 [--vectors vectors.jsonl] [--clusters 2]
//! [--recall 0.99] [--k 10] [--queries 200] [--runs 3]`; vectors are JSON lines with `values`.

use std::{env, error::Error, fs};

use reprise_cache::{BenchConfig, UnitVector, bench_retrieval};

fn main() -> Result<(), Box<dyn Error>> {
    let (mut sizes, mut runs) = (Vec::new(), 1_u64);
    let mut config = BenchConfig::default();
    let mut args = env::args().skip(1);
    while let Some(name) = args.next() {
        let value = args.next().ok_or("an option has no value")?;
        match name.as_str() {
            "--n" => sizes.push(value.parse()?),
            "--vectors" => config.around = read(&value)?,
            "--clusters" => config.index.clusters = value.parse()?,
            "--recall" => config.index.recall = value.parse()?,
            "--k" => config.k = value.parse()?,
            "--queries" => config.queries = value.parse()?,
            "--runs" => runs = value.parse()?,
            _ => return Err(format!("no such option: {name}").into()),
        }
    }
    println!(
        "run,vectors,data,k,clusters,searched,exact_p50_us,exact_p99_us,clusters_p50_us,clusters_p99_us,recall,build_s,\
         searches_during_build,during_build_p50_us,during_build_p99_us,during_build_max_us,index_bytes_per_vector"
    );
    for n in sizes {
        for run in 1..=runs {
            let report = bench_retrieval(n, &BenchConfig { seed: run, ..config.clone() });
            println!(
                "{run},{},{},{},{},{},{:.1},{:.1},{:.1},{:.1},{:.4},{:.2},{},{:.1},{:.1},{:.1},{:.0}",
                report.vectors,
                if config.around.is_empty() { "synthetic" } else { "real" },
                report.k,
                report.shape.clusters,
                report.shape.searched,
                report.exact_p50_us,
                report.exact_p99_us,
                report.clusters_p50_us,
                report.clusters_p99_us,
                report.recall,
                report.build_s,
                report.searches_during_build,
                report.during_build_p50_us,
                report.during_build_p99_us,
                report.during_build_max_us,
                report.index_bytes_per_vector.unwrap_or(f64::NAN),
            );
        }
    }
    Ok(())
}

fn read(path: &str) -> Result<Vec<UnitVector>, Box<dyn Error>> {
    let row = |line: &str| -> Result<UnitVector, Box<dyn Error>> {
        let row: serde_json::Value = serde_json::from_str(line)?;
        let values = row.get("values").and_then(|values| values.as_array()).ok_or("a line has no values")?;
        let numbers = values.iter().map(|value| value.as_f64().unwrap_or(f64::NAN) as f32).collect();
        Ok(UnitVector::try_new(numbers)?)
    };
    fs::read_to_string(path)?.lines().map(row).collect()
}
