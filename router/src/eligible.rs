//! Which arms a request can be given at all. Policies only ever see these.

use std::time::Duration;

use schemars::JsonSchema;
use serde::Serialize;

use crate::{Arm, ArmState, Context, RouteError};

/// An arm that could not be chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Excluded {
    pub arm: Arm,
    pub reason: Exclusion,
}

/// Why an arm could not be chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Exclusion {
    /// The client named another tier.
    NotPinned,
    NotReady,
    /// Its waiting queue is full.
    Saturated,
    /// Nothing was selected, or the client allows none.
    NoExamples,
    /// The harm guard: examples made such requests worse on this tier.
    Harmful,
    /// The prompt would not fit its context, by the estimate at hand.
    TooLong,
}

/// Splits the arms. The first list is never empty.
///
/// `TooLong` rests on an estimate: if it alone would exclude the last arm, it is not applied, and the tier, which has
/// the tokenizer, says it exactly.
///
/// # Errors
/// [`RouteError::NotReady`] if no allowed tier is ready, [`RouteError::Saturated`] if all that are have full queues,
/// [`RouteError::UnknownTier`] if the pinned tier is not there.
pub fn eligible<'s>(
    context: &Context<'_>,
    arms: &'s [ArmState],
    withheld: &dyn Fn(&ArmState) -> bool,
) -> Result<(Vec<&'s ArmState>, Vec<Excluded>), RouteError> {
    if let Some(tier) = context.pinned_tier
        && !arms.iter().any(|state| state.arm.tier == tier)
    {
        return Err(RouteError::UnknownTier { tier });
    }
    let (mut open, mut long, mut excluded) = (Vec::with_capacity(arms.len()), Vec::new(), Vec::new());
    for state in arms {
        match exclusion(context, state, withheld) {
            None => open.push(state),
            Some(Exclusion::TooLong) => long.push(state),
            Some(reason) => excluded.push(Excluded { arm: state.arm, reason }),
        }
    }
    if open.is_empty() {
        open = long;
    } else {
        excluded.extend(long.iter().map(|state| Excluded { arm: state.arm, reason: Exclusion::TooLong }));
    }
    if open.is_empty() { Err(failure(arms, &excluded)) } else { Ok((open, excluded)) }
}

fn exclusion(
    context: &Context<'_>,
    state: &ArmState,
    withheld: &dyn Fn(&ArmState) -> bool,
) -> Option<Exclusion> {
    if context.pinned_tier.is_some_and(|tier| tier != state.arm.tier) {
        return Some(Exclusion::NotPinned);
    }
    if !state.ready {
        return Some(Exclusion::NotReady);
    }
    if state.is_saturated() {
        return Some(Exclusion::Saturated);
    }
    if state.arm.examples && (context.similarities.is_empty() || context.max_examples == Some(0)) {
        return Some(Exclusion::NoExamples);
    }
    if state.arm.examples && withheld(state) {
        return Some(Exclusion::Harmful);
    }
    let examples = if state.arm.examples { context.example_tokens } else { 0 };
    (context.prompt_tokens.saturating_add(examples) >= state.context_length).then_some(Exclusion::TooLong)
}

fn failure(arms: &[ArmState], excluded: &[Excluded]) -> RouteError {
    let soonest = excluded
        .iter()
        .filter(|excluded| excluded.reason == Exclusion::Saturated)
        .filter_map(|excluded| arms.iter().find(|state| state.arm == excluded.arm))
        .map(|state| state.pressure.queued_seconds)
        .filter(|seconds| seconds.is_finite())
        .reduce(f64::min);
    match soonest {
        Some(seconds) => {
            RouteError::Saturated { retry_after: Duration::from_secs_f64(seconds.clamp(1.0, 60.0)) }
        }
        None => RouteError::NotReady,
    }
}
