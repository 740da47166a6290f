use std::time::Duration;

use super::window::Count;
use super::{Amount, Limits};
use crate::ledger::State;
use crate::moment::Moment;

/// Why a request does not fit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{scope:?} limit of {what:?}: {limit}, used {used}, requested {need}")]
pub struct Refused {
    pub scope: Scope,
    pub what: What,
    /// Money in billionths.
    pub limit: u64,
    /// With what others have reserved.
    pub used: u64,
    pub need: u64,
    /// `None`: it will never fit.
    pub retry_after: Option<Duration>,
}

/// Whose limit it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    Key,
    Tenant,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What {
    RequestsPerMinute,
    TokensPerMinute,
    BudgetTokens,
    BudgetMoney,
}

/// Whether so many requests and so much more fit. What needs no tokens is not held up by limits of tokens.
///
/// # Errors
/// The first limit that they do not fit under.
pub fn check(
    scope: Scope,
    limits: &Limits,
    state: &State,
    requests: u64,
    need: Amount,
    now: Moment,
) -> Result<(), Refused> {
    let window = |what, count, limit: Option<u64>, need: u64| {
        let Some(limit) = limit.filter(|_| need > 0) else { return Ok(()) };
        match state.window.wait(count, limit, need, now.second) {
            Some(Duration::ZERO) => Ok(()),
            retry_after => {
                let used = state.window.sum(count, now.second);
                Err(Refused { scope, what, limit, used, need, retry_after })
            }
        }
    };
    window(What::RequestsPerMinute, Count::Requests, limits.requests_per_minute, requests)?;
    window(What::TokensPerMinute, Count::Tokens, limits.tokens_per_minute, need.tokens)?;
    let spent = state.spent.of(limits.budget_period, now.wall_ms);
    let left = || limits.budget_period.left(now.wall_ms);
    let budget = |what, limit: Option<u64>, used: u64, need: u64| {
        let Some(limit) = limit.filter(|_| need > 0) else { return Ok(()) };
        if used.saturating_add(need) <= limit {
            return Ok(());
        }
        let retry_after = left().filter(|_| need <= limit);
        Err(Refused { scope, what, limit, used, need, retry_after })
    };
    let tokens = spent.tokens().saturating_add(state.reserved.tokens);
    budget(What::BudgetTokens, limits.budget_tokens, tokens, need.tokens)?;
    let money = spent.money_nanos.plus(state.reserved.money).nanos();
    budget(What::BudgetMoney, limits.budget_money.map(|money| money.nanos()), money, need.money.nanos())
}
