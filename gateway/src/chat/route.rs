//! Stage 5: which tier, and with which examples. Cache and router have one deadline together; when they are late or fail
//! the request goes straight to the default tier: they may only help.

use std::time::{Duration, Instant};

use reprise_cache::selection::Chosen;
use reprise_cache::{ExampleId, UnitVector};
use reprise_router::{Action, ArmState, Context, Decision, RouteError, TaskFlags};
use reprise_tier::Priority;

use super::directives::Directives;
use super::parse::Ask;
use super::recall::{Recalled, recall};
use super::trail::{Stage, Trail};
use crate::decisions::CacheStatus;
use crate::error::ApiError;

/// How a request will be answered.
#[derive(Debug, Default)]
pub struct Plan {
    pub tier: usize,
    /// Most useful last; none if the arm takes none.
    pub examples: Vec<Chosen>,
    /// Of the question, where it was made in time.
    pub embedding: Option<UnitVector>,
    /// Near examples that a better answer would have made useful.
    pub held_back: Vec<ExampleId>,
    /// Serve this example's answer as it is: only the policy `reuse` does.
    pub reuse: Option<Chosen>,
}

/// # Errors
/// No tier can take the request.
pub async fn plan(
    trail: &mut Trail,
    ask: &Ask,
    directives: &Directives,
    deadline: Instant,
) -> Result<Plan, ApiError> {
    let recalled = match recall_in_time(trail, ask, directives, deadline).await {
        Ok(recalled) => recalled,
        Err(late) => {
            trail.went_straight(late);
            return straight(trail, ask, directives);
        }
    };
    let begun = Instant::now();
    let decided = decide(trail, ask, directives, recalled.as_ref());
    trail.time(Stage::Route, begun, begun.elapsed());
    let decision = decided?;
    let mut plan = Plan { tier: decision.arm.tier, ..Plan::default() };
    if let Some(recalled) = recalled {
        plan.embedding = Some(recalled.embedding);
        plan.held_back = recalled.held_back;
        if decision.action == Action::Reuse && directives.reuse {
            plan.reuse = recalled.nearest;
        }
        if decision.arm.examples {
            plan.examples = recalled.chosen;
        }
    }
    trail.decided(decision);
    Ok(plan)
}

/// The reason for going straight, if the cache was late or failed.
async fn recall_in_time(
    trail: &mut Trail,
    ask: &Ask,
    directives: &Directives,
    deadline: Instant,
) -> Result<Option<Recalled>, &'static str> {
    let Some(memory) = trail.state.memory().filter(|_| directives.read).cloned() else { return Ok(None) };
    match tokio::time::timeout_at(deadline.into(), recall(trail, &memory, ask, directives)).await {
        Ok(Ok(recalled)) => {
            trail.cache(CacheStatus::Miss);
            Ok(recalled)
        }
        Ok(Err(error)) => {
            tracing::warn!(request = %trail.id(), %error, "answered without the cache");
            Err("error")
        }
        Err(_) => Err("deadline"),
    }
}

fn decide(
    trail: &Trail,
    ask: &Ask,
    directives: &Directives,
    recalled: Option<&Recalled>,
) -> Result<Decision, RouteError> {
    let chosen = recalled.map(|recalled| recalled.chosen.as_slice()).unwrap_or_default();
    let utilities: Vec<f32> = chosen.iter().map(|chosen| chosen.utility).collect();
    let similarities: Vec<f32> = chosen.iter().map(|chosen| chosen.similarity).collect();
    let context = Context {
        embedding: recalled.map(|recalled| recalled.embedding.as_slice()),
        utilities: &utilities,
        similarities: &similarities,
        example_tokens: chosen.iter().map(|chosen| chosen.tokens).sum(),
        prompt_tokens: ask.estimated_tokens(),
        completion_tokens: ask.max_tokens,
        flags: ask.question().map(TaskFlags::detect).unwrap_or_default(),
        pinned_tier: ask.pinned,
        max_examples: directives.max_examples,
    };
    let arms = patient(trail, ask, directives, arms(trail, ask))?;
    trail.state.router.decide(&context, &arms, Instant::now(), &mut rand::rng())
}

/// Those of the tiers that can do what is asked.
fn arms(trail: &Trail, ask: &Ask) -> Vec<ArmState> {
    let pool = &trail.state.pool;
    let mut arms = pool.arms();
    arms.retain(|state| pool.tier(state.arm.tier).is_some_and(|tier| ask.suits(tier.info())));
    arms
}

/// Those behind which the request would not wait for too long, as predicted; if that is none, when to come back.
fn patient(
    trail: &Trail,
    ask: &Ask,
    directives: &Directives,
    arms: Vec<ArmState>,
) -> Result<Vec<ArmState>, RouteError> {
    if directives.priority == Priority::Batch {
        return Ok(arms);
    }
    let config = trail.state.config();
    let left = (trail.begun() + config.server.request_timeout).saturating_duration_since(Instant::now());
    let longest = config.resilience.longest_wait.min(left).as_secs_f64();
    let possible = |state: &&ArmState| state.ready && ask.pinned.is_none_or(|tier| tier == state.arm.tier);
    let waits = arms.iter().filter(possible).map(|state| state.pressure.queued_seconds);
    let shortest = waits.filter(|wait| wait.is_finite()).reduce(f64::min).unwrap_or(0.0);
    if shortest > longest {
        let retry_after = Duration::from_secs_f64((shortest - longest).clamp(1.0, 3600.0));
        return Err(RouteError::Saturated { retry_after });
    }
    let bearable = |state: &ArmState| !possible(&state) || state.pressure.queued_seconds <= longest;
    Ok(arms.into_iter().filter(bearable).collect())
}

/// The tier that the client named, else the default one, without examples.
fn straight(trail: &Trail, ask: &Ask, directives: &Directives) -> Result<Plan, ApiError> {
    let pool = &trail.state.pool;
    let arms = patient(trail, ask, directives, arms(trail, ask))?;
    let able = |tier: usize| arms.iter().any(|state| state.ready && state.arm.tier == tier);
    let first = || arms.iter().find(|state| state.ready).map(|state| state.arm.tier);
    let tier = ask.pinned.or_else(|| pool.straight().filter(|tier| able(*tier))).or_else(first);
    tier.map(|tier| Plan { tier, ..Plan::default() }).ok_or_else(|| RouteError::NotReady.into())
}
