//! Stage 5: which tier, and with which examples. Cache and router have one deadline together; when they are late or fail
//! the request goes straight to the default tier: they may only help.

use std::time::Instant;

use reprise_cache::selection::Chosen;
use reprise_cache::{ExampleId, UnitVector};
use reprise_router::{Action, ArmState, Context, Decision, RouteError, TaskFlags};

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
            return straight(trail, ask);
        }
    };
    let begun = Instant::now();
    let decided = decide(trail, ask, directives, recalled.as_ref());
    trail.time(Stage::Route, begun.elapsed());
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
    trail.state.router.decide(&context, &arms(trail, ask), Instant::now(), &mut rand::rng())
}

/// Those of the tiers that can do what is asked.
fn arms(trail: &Trail, ask: &Ask) -> Vec<ArmState> {
    let pool = &trail.state.pool;
    let mut arms = pool.arms();
    arms.retain(|state| pool.tier(state.arm.tier).is_some_and(|tier| ask.suits(tier.info())));
    arms
}

/// The tier that the client named, else the default one, without examples.
fn straight(trail: &Trail, ask: &Ask) -> Result<Plan, ApiError> {
    let pool = &trail.state.pool;
    let suits = |tier: &usize| pool.tier(*tier).is_some_and(|tier| ask.suits(tier.info()));
    let able = || arms(trail, ask).iter().find(|state| state.ready).map(|state| state.arm.tier);
    let tier = ask.pinned.or_else(|| pool.straight().filter(suits)).or_else(able);
    tier.map(|tier| Plan { tier, ..Plan::default() }).ok_or_else(|| RouteError::NotReady.into())
}
