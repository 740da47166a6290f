use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, ensure};
use reprise_replay::curate::judge::{Agreement, Referee, Reference, References, SideBySide};
use reprise_replay::curate::{self, CurateError, Curation, Judge, RunReport, Stop, plan};
use reprise_replay::gateway::{Gateway, Keys};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::cli::{Curate, JudgeArg};
use crate::exit;

const LEASE_TTL: Duration = Duration::from_secs(60);

pub async fn run(args: Curate, cancel: &CancellationToken) -> anyhow::Result<u8> {
    ensure!(args.horizon_h.is_finite() && args.horizon_h > 0.0, "--horizon-h must be positive");
    let (once, json, dry_run) = (args.once, args.json, args.dry_run);
    let interval = Duration::from_secs(args.interval_s);
    let gateway = args.connection.open()?;
    let judge = judge(&args, &gateway)?;
    let curation = curation(args)?;
    if dry_run {
        return show_plan(&gateway, &curation, judge.as_ref()).await;
    }
    let mut first = true;
    loop {
        match curate::run(&gateway, &curation, &judge, cancel).await {
            Ok(report) => {
                show(&report, json)?;
                if once || cancel.is_cancelled() {
                    return Ok(code(report.stopped_because));
                }
            }
            Err(CurateError::LeaseHeld(message)) if first => {
                eprintln!("reprise-replay: another curation is at work: {message}");
                return Ok(exit::LEASE_HELD);
            }
            Err(error) if once || first => return Err(error.into()),
            // A loop outlives a gateway that is down for a while.
            Err(error) => warn!(%error, "this run did not happen; the next one comes in its time"),
        }
        first = false;
        tokio::select! {
            () = cancel.cancelled() => return Ok(0),
            () = tokio::time::sleep(interval) => {}
        }
    }
}

/// Stopping early is how a curation is meant to end; failing is not.
fn code(stop: Stop) -> u8 {
    match stop {
        Stop::GatewayFails | Stop::LeaseLost => 1,
        Stop::Interrupted => exit::INTERRUPTED,
        _ => 0,
    }
}

fn show(report: &RunReport, json: bool) -> anyhow::Result<()> {
    if json {
        println!("{}", serde_json::to_string_pretty(report)?);
    } else {
        println!("{report}");
    }
    Ok(())
}

async fn show_plan(gateway: &Gateway, curation: &Curation, judge: &dyn Judge) -> anyhow::Result<u8> {
    let (planned, skipped) = plan(gateway, curation, judge, &HashSet::new()).await?;
    println!("pays  saving  cost  G(e)   uses  replays  tenant / id  request");
    for candidate in &planned {
        let (example, worth) = (&candidate.example, candidate.worth);
        let request: String = example.request.split_whitespace().collect::<Vec<_>>().join(" ");
        println!(
            "{:4}  {:6.0}  {:4.0}  {:.3}  {:4}  {:7}  {} / {}  {}",
            if worth.pays(1.0) { "yes" } else { "no" },
            worth.expected_saving(),
            worth.replay_cost,
            example.replay_gain,
            example.uses,
            example.replays,
            candidate.tenant,
            example.id,
            request.chars().take(60).collect::<String>()
        );
    }
    for (reason, count) in skipped {
        println!("left out {count}: {reason}");
    }
    Ok(0)
}

fn judge(args: &Curate, gateway: &Gateway) -> anyhow::Result<Arc<dyn Judge>> {
    let timeout = Duration::from_secs(args.timeout_s);
    Ok(match args.judge {
        JudgeArg::Agreement => {
            ensure!(args.samples >= 2, "agreement needs --samples of at least 2");
            Arc::new(Agreement::default())
        }
        JudgeArg::Reference => Arc::new(Reference(References::read(&args.references)?)),
        JudgeArg::Tier => Arc::new(SideBySide::Tier { gateway: gateway.clone(), timeout }),
        JudgeArg::Remote => {
            let url = args.judge_url.as_deref().context("--judge remote needs --judge-url")?;
            let model = args.judge_model.as_deref().context("--judge remote needs --judge-model")?;
            // Base addresses of OpenAI-compatible servers are given with and without the version.
            let url = url.trim_end_matches('/').trim_end_matches("/v1");
            let keys = Keys { admin: None, api: args.judge_key.clone() };
            let server = Gateway::trusting(url, keys, args.connection.ca_file.as_deref())?;
            Arc::new(SideBySide::Remote(Referee::remote(server, model, timeout)))
        }
    })
}

fn curation(args: Curate) -> anyhow::Result<Curation> {
    Ok(Curation {
        tenants: args.tenants,
        samples: args.samples,
        temperature: args.temperature,
        max_tokens: args.max_tokens,
        budget_tokens: args.budget_tokens,
        horizon_h: args.horizon_h,
        max_replays: args.max_replays,
        max_candidates: args.max_candidates,
        replace_imported: args.replace_imported,
        idle_wait: Duration::from_secs(args.idle_wait_s),
        lease_ttl: LEASE_TTL,
        holder: holder(),
        state_dir: match args.state_dir {
            Some(dir) => dir,
            None => state_dir().context("name a folder for the journal with --state-dir")?,
        },
        request_timeout: Duration::from_secs(args.timeout_s),
    })
}

/// Host and process, for whoever finds the lease taken.
fn holder() -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let host = if host.trim().is_empty() { "unknown host" } else { host.trim() };
    format!("reprise-replay on {}, process {}", host.chars().take(64).collect::<String>(), std::process::id())
}

/// systemd's folder for the service, else the user's.
fn state_dir() -> Option<PathBuf> {
    let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    set("STATE_DIRECTORY")
        .or_else(|| set("XDG_STATE_HOME").map(|dir| dir.join("reprise-replay")))
        .or_else(|| set("HOME").map(|dir| dir.join(".local/state/reprise-replay")))
}
