use std::io::BufRead;

use clap::Parser;
use reprise_engine::ExpertParallelBench;
use serde_json::{Value, json};

use super::ExpertParallelArgs;

/// A line of cells.
#[derive(Debug, Parser)]
#[command(no_binary_name = true)]
struct Cell {
    name: String,
    #[command(flatten)]
    args: ExpertParallelArgs,
}

/// Measures what standard input asks for. A cell that fails says why, and the next goes on.
pub(super) fn run() -> anyhow::Result<()> {
    let mut bench = ExpertParallelBench::default();
    for line in std::io::stdin().lock().lines() {
        let line = line?;
        let Some(name) = line.split_whitespace().next() else { continue };
        let report = measure(&mut bench, &line)
            .unwrap_or_else(|error| json!({ "cell": name, "error": format!("{error:#}") }));
        println!("{report}");
    }
    Ok(())
}

fn measure(bench: &mut ExpertParallelBench, line: &str) -> anyhow::Result<Value> {
    let Cell { name, args } = Cell::try_parse_from(line.split_whitespace())?;
    let mut report = bench.run(&args.options()?)?;
    report["cell"] = json!(name);
    Ok(report)
}
