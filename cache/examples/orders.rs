//! What the fourth wall (`cache/src/orders.rs`) takes for an order, of real requests and their answers: none of these is one, so that
//! what it finds is what it costs.
//!
//! `cargo run --release -p reprise-cache --example orders -- FILE.jsonl...` reads objects with `prompt` and `reference`, prints a line
//! of CSV for each file and, on standard error, every text that was refused.

use std::{
    env,
    error::Error,
    fs::File,
    io::{BufRead, BufReader},
    path::Path,
};

use reprise_cache::gives_orders;
use serde_json::Value;

fn main() -> Result<(), Box<dyn Error>> {
    println!("file,pairs,refused");
    for path in env::args().skip(1) {
        let (mut pairs, mut refused) = (0_u64, 0_u64);
        for line in BufReader::new(File::open(&path)?).lines() {
            let row: Value = serde_json::from_str(&line?)?;
            let Some(prompt) = row["prompt"].as_str() else { continue };
            pairs += 1;
            for text in [prompt, row["reference"].as_str().unwrap_or_default()] {
                if gives_orders(text) {
                    refused += 1;
                    eprintln!("{text:?}");
                    break;
                }
            }
        }
        let name = Path::new(&path).file_name().unwrap_or_default().to_string_lossy().into_owned();
        println!("{name},{pairs},{refused}");
    }
    Ok(())
}
