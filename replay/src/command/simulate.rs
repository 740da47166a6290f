use std::time::Duration;

use anyhow::{Context, ensure};
use reprise_replay::data::arrivals::Arrivals;
use reprise_replay::gateway::admin::TierInfo;
use reprise_replay::harness::outcome::{self, OUTCOMES, VECTORS};
use reprise_replay::harness::table::Table;
use reprise_replay::policies::Play;
use reprise_replay::simulate::machine::{TierSpeed, Work};
use reprise_replay::simulate::requests::{KnownTier, Logged, Taken, in_order, logged};
use reprise_replay::simulate::{Simulation, run, simulate};
use reprise_replay::trace::{DataFile, RunFile};
use reprise_router::{Router, RouterConfig};

use crate::cli::Simulate;

/// Of every tier that is simulated: nothing in the tables comes near it.
const CONTEXT_LENGTH: u32 = 8192;

pub fn run(args: &Simulate) -> anyhow::Result<u8> {
    let mut outcomes = outcome::read(&args.table)?;
    if args.compute_all {
        outcomes.iter_mut().for_each(|outcome| outcome.cached_tokens = 0);
    }
    let vectors = Table::open(&args.table.join(VECTORS))?;
    let taken = Taken { split: &args.split, pool: &args.pool, arm: &args.examples };
    let (known, tiers) = logged(&outcomes, &vectors, taken)?;
    let speeds: Vec<TierSpeed> =
        tiers.iter().map(|tier| speed_of(args, tier)).collect::<anyhow::Result<_>>()?;
    let requests = in_order(&known, args.requests.unwrap_or(known.len()), args.seed);
    let arrivals = arrivals(args, &requests, &speeds)?;
    let router = Router::new(config(args))?;
    let mut from_s = 0;
    if let Some(split) = &args.teach {
        let (lessons, _) = logged(&outcomes, &vectors, Taken { split, ..taken })?;
        let play =
            Play { tiers: &tiers, speeds: &speeds, feedback: true, load: 0.0, from_s, seed: args.seed };
        play.requests(&router, &in_order(&lessons, lessons.len(), args.seed))?;
        from_s = lessons.len();
    }
    let label = args.label.clone().unwrap_or_else(|| args.policy.to_string());
    let simulation = Simulation {
        label: &label,
        requests: &requests,
        tiers: &tiers,
        speeds: &speeds,
        arrivals: arrivals.as_deref(),
        feedback: args.feedback,
        context_length: CONTEXT_LENGTH,
        from_s,
        seed: args.seed,
    };
    let loop_kind = if arrivals.is_some() { "open" } else { "closed" };
    let mut file = RunFile::new(&label, args.policy.as_str(), args.seed, 1, requests.len(), loop_kind.into());
    let (rows, moments) = simulate(&simulation, &router);
    file.command = RunFile::portable_command(std::env::args());
    file.files.push(DataFile::of(&args.table.join(OUTCOMES))?);
    file.files.extend(args.arrivals.as_deref().map(DataFile::of).transpose()?);
    file.tiers = tiers.iter().map(tier_info).collect();
    let failed = rows.iter().filter(|row| row.error.is_some()).count();
    run::write(&args.out, file, &rows, &moments)?;
    println!("{} rows, {failed} refused: {}", rows.len(), args.out.display());
    Ok(0)
}

fn config(args: &Simulate) -> RouterConfig {
    let mut config = RouterConfig { policy: args.policy, ..RouterConfig::default() };
    config.similarity_threshold = args.similarity_threshold.unwrap_or(config.similarity_threshold);
    config.win_threshold = args.win_threshold.unwrap_or(config.win_threshold);
    config.load.lambda0 = args.lambda0.unwrap_or(config.load.lambda0);
    config.load.theta = args.theta.unwrap_or(config.load.theta);
    config.load.capacity_s = args.capacity_s.unwrap_or(config.load.capacity_s);
    if args.no_load_bias {
        config.load.lambda0 = 0.0;
    }
    config
}

fn speed_of(args: &Simulate, tier: &KnownTier) -> anyhow::Result<TierSpeed> {
    let named = args.speeds.iter().find(|speed| speed.tier == tier.name);
    Ok(named.with_context(|| format!("the table has a tier {}: give its --speed", tier.name))?.speed)
}

/// The recorded times, squeezed so that the dearest tier alone would be as busy as `--load` says.
fn arrivals(
    args: &Simulate,
    requests: &[Logged],
    speeds: &[TierSpeed],
) -> anyhow::Result<Option<Vec<Duration>>> {
    let Some(path) = &args.arrivals else { return Ok(None) };
    ensure!(args.load.is_finite() && args.load > 0.0, "--load must be positive");
    let recorded = Arrivals::read(path, 0, requests.len(), 1.0)?;
    let recorded = recorded.times();
    let span = recorded.last().map_or(0.0, Duration::as_secs_f64);
    ensure!(span > 0.0, "the arrivals span no time");
    let dearest = speeds.last().context("there is no tier")?;
    let work: f64 = requests
        .iter()
        .filter_map(|request| request.answers.last())
        .map(|answers| Work::of(&answers.plain))
        .map(|work| dearest.alone_s(work))
        .sum();
    let scale = work / args.load / span;
    Ok(Some(recorded.iter().map(|time| time.mul_f64(scale)).collect()))
}

fn tier_info(tier: &KnownTier) -> TierInfo {
    TierInfo {
        name: tier.name.clone(),
        model: tier.model.clone(),
        state: "simulated".to_owned(),
        cost: tier.cost,
        context_length: Some(CONTEXT_LENGTH),
        remote: false,
    }
}
