use std::path::Path;

use anyhow::Context;
use reprise_replay::harness::outcome::{self, Outcome, TEST, VECTORS};
use reprise_replay::harness::table::Table;
use reprise_replay::policies::arms::{Against, arms};
use reprise_replay::policies::study::Study;
use serde::Serialize;

use crate::cli::Policies;

/// One answer, as a reader needs it who wants other sums.
#[derive(Serialize)]
struct Line<'a> {
    id: &'a str,
    set: &'a str,
    split: &'a str,
    tier: &'a str,
    pool: &'a str,
    arm: &'a str,
    score: f64,
    reused: Option<f64>,
    nearest: f32,
    shown: usize,
    prompt_tokens: u32,
    cached_tokens: u32,
    completion_tokens: u32,
}

pub fn run(args: &Policies) -> anyhow::Result<u8> {
    let outcomes = outcome::read(&args.table)?;
    let vectors = Table::open(&args.table.join(VECTORS))?;
    let study = Study {
        outcomes: &outcomes,
        vectors: &vectors,
        speeds: &args.speeds,
        train: &args.train,
        seeds: &args.seeds,
        shows: &args.shows,
    };
    let policies = study.run()?;
    let (changes, steps) = study.drift()?;
    let (pool, arm) = args.shows.first().context("an arm with examples is needed")?;
    let speed = |tier: &str| args.speeds.iter().find(|speed| speed.tier == tier).map(|named| named.speed);
    let arms = arms(&outcomes, TEST, Against { pool, arm }, &speed);
    std::fs::create_dir_all(&args.out).with_context(|| format!("create {}", args.out.display()))?;
    write(&args.out.join("policies.csv"), &policies)?;
    write(&args.out.join("arms.csv"), &arms)?;
    write(&args.out.join("drift.csv"), &changes)?;
    write(&args.out.join("drift-steps.csv"), &steps)?;
    write(&args.out.join("outcomes.csv"), &outcomes.iter().map(line).collect::<Vec<_>>())?;
    println!("{} rows of policies, {} of arms: {}", policies.len(), arms.len(), args.out.display());
    Ok(0)
}

fn line(outcome: &Outcome) -> Line<'_> {
    Line {
        id: &outcome.id,
        set: &outcome.set,
        split: &outcome.split,
        tier: &outcome.tier,
        pool: &outcome.pool,
        arm: &outcome.arm,
        score: outcome.score,
        reused: outcome.reused,
        nearest: outcome.nearest,
        shown: outcome.examples.len(),
        prompt_tokens: outcome.prompt_tokens,
        cached_tokens: outcome.cached_tokens,
        completion_tokens: outcome.completion_tokens,
    }
}

fn write(path: &Path, rows: &[impl Serialize]) -> anyhow::Result<()> {
    let mut csv = csv::Writer::from_path(path).with_context(|| format!("create {}", path.display()))?;
    for row in rows {
        csv.serialize(row)?;
    }
    Ok(csv.flush()?)
}
