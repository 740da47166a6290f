//! The pool, and what brings its tiers up one after the other.

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use reprise_models::Puller;
use reprise_router::{Pool, RemoteConfig, RemoteTier};
use reprise_tier::{SharedTier, Tier, TierInfo, TierState};

use super::deferred::Deferred;
use super::{local, models};
use crate::config::{Config, LocalPlan, RemotePlan, TierPlan, Weights};
use crate::state::SharedState;

const POLL: Duration = Duration::from_millis(25);
/// Until a local tier says how long its context is.
const UNKNOWN_CONTEXT: u32 = 4096;

/// A local tier that is still to be fetched and loaded.
#[derive(Debug)]
pub struct Waiting {
    plan: LocalPlan,
    model_id: String,
    tier: Arc<Deferred>,
}

/// All tiers in their pool, and those of them that wait, cheapest first.
pub fn pool(config: &Config) -> anyhow::Result<(Pool, Vec<Waiting>)> {
    let (mut tiers, mut waiting): (Vec<SharedTier>, Vec<Waiting>) = (Vec::new(), Vec::new());
    for plan in &config.tiers {
        match plan {
            TierPlan::Remote(plan) => tiers.push(remote(plan)?),
            TierPlan::Local(plan) => {
                let waits = Waiting::new(plan);
                tiers.push(Arc::clone(&waits.tier) as SharedTier);
                waiting.push(waits);
            }
        }
    }
    waiting.sort_by(|a, b| a.plan.cost.total_cmp(&b.plan.cost));
    let pool = Pool::new(tiers, Some(&config.default_tier))
        .and_then(|pool| {
            pool.with_breakers(config.resilience.breaker).with_fallbacks(&config.resilience.fallback)
        })
        .context("the tiers")?;
    Ok((pool, waiting))
}

/// One after the other: the cheap one is small and answers within seconds, and two that load at once are both slow.
pub async fn bring_up(state: SharedState, waiting: Vec<Waiting>) {
    let puller = match models::puller() {
        Ok(puller) => puller,
        Err(error) => {
            let reason = format!("{error:#}");
            return waiting.iter().for_each(|waits| waits.tier.settle(Err(reason.clone())));
        }
    };
    for waits in waiting {
        let started = tokio::select! {
            biased;
            () = state.shutdown.cancelled() => return,
            started = waits.start(&puller) => started,
        };
        if let Err(error) = &started {
            tracing::error!(tier = waits.plan.name, error = format!("{error:#}"), "a tier does not come up");
        }
        waits.tier.settle(started.map_err(|error| format!("{error:#}")));
        while waits.tier.state() == TierState::Loading && !state.shutdown.is_cancelled() {
            tokio::time::sleep(POLL).await;
        }
        match waits.tier.state() {
            TierState::Ready => tracing::info!(
                tier = waits.plan.name,
                model = waits.model_id,
                context = waits.tier.info().context_length,
                "a tier is ready"
            ),
            TierState::Failed { reason } => tracing::error!(tier = waits.plan.name, reason, "a tier failed"),
            TierState::Loading => {}
        }
    }
}

/// Says once that the gateway is of use.
pub async fn announce(state: SharedState) {
    while !state.is_ready() {
        tokio::select! {
            () = state.shutdown.cancelled() => return,
            () = tokio::time::sleep(POLL) => {}
        }
    }
    let ready = state.pool.iter().filter(|tier| tier.state() == TierState::Ready);
    let names: Vec<&str> = ready.map(|tier| tier.info().name.as_str()).collect();
    let after = state.started.elapsed();
    tracing::info!(
        tiers = names.join(", "),
        after_s = after.as_secs_f64(),
        "ready on http://{}",
        state.config().listen
    );
}

impl Waiting {
    fn new(plan: &LocalPlan) -> Self {
        let model_id = match &plan.weights {
            Weights::Manifest(name) => name.clone(),
            Weights::Gguf(path) => path.file_stem().unwrap_or_default().to_string_lossy().into_owned(),
        };
        let info = TierInfo {
            name: plan.name.clone(),
            model: model_id.clone(),
            context_length: plan.context_length.unwrap_or(UNKNOWN_CONTEXT),
            cost: plan.cost,
            remote: false,
        };
        Self { plan: plan.clone(), model_id, tier: Arc::new(Deferred::new(info)) }
    }

    async fn start(&self, puller: &Puller) -> anyhow::Result<SharedTier> {
        let gguf: PathBuf = match &self.plan.weights {
            Weights::Manifest(name) => models::gguf(puller, name).await?,
            Weights::Gguf(path) => path.clone(),
        };
        Ok(local::start(&self.plan, &self.model_id, gguf))
    }
}

fn remote(plan: &RemotePlan) -> anyhow::Result<SharedTier> {
    let defaults = RemoteConfig::new(&plan.name, &plan.base_url, &plan.model, plan.cost);
    let config = RemoteConfig {
        api_key: plan.api_key.clone(),
        context_length: plan.context_length,
        max_concurrent: plan.max_concurrent.map_or(defaults.max_concurrent, NonZeroUsize::get),
        queue: plan.queue.get(),
        ..defaults
    };
    let tier = RemoteTier::new(config).with_context(|| format!("the tier {}", plan.name))?;
    Ok(Arc::new(tier))
}
