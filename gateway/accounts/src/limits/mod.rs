//! What a key or a tenant may use, and whether a request fits into what is left of it. No I/O, no clock.

mod check;
mod period;
mod spent;
mod standing;
mod window;

use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::money::{Money, units};

pub use check::{Refused, Scope, What, check};
pub use period::Period;
pub use spent::{Spent, Sum};
pub use standing::{Left, Standing};
pub use window::Window;

/// What may be used; what is not set is not limited.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// In any 60 seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub requests_per_minute: Option<u64>,
    /// Prompt and completion, in any 60 seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tokens_per_minute: Option<u64>,
    /// Prompt and completion, in a period.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub budget_tokens: Option<u64>,
    /// By the prices of the tiers, in a period.
    #[serde(skip_serializing_if = "Option::is_none", with = "units")]
    #[schemars(with = "Option<f64>")]
    pub budget_money: Option<Money>,
    /// Of the budgets.
    pub budget_period: Period,
}

impl Limits {
    /// Something is limited.
    #[must_use]
    pub fn any(&self) -> bool {
        self.requests_per_minute.is_some()
            || self.tokens_per_minute.is_some()
            || self.budget_tokens.is_some()
            || self.budget_money.is_some()
    }

    /// The number of tokens matters, not only that of requests.
    #[must_use]
    pub fn of_tokens(&self) -> bool {
        self.tokens_per_minute.is_some() || self.budget_tokens.is_some() || self.budget_money.is_some()
    }
}

/// Whose use is counted.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Account {
    /// By its id.
    Key(Arc<str>),
    Tenant(Arc<str>),
}

/// What a request may use at most.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Amount {
    /// Prompt and completion.
    pub tokens: u64,
    pub money: Money,
}

impl Amount {
    pub const NOTHING: Self = Self { tokens: 0, money: Money::ZERO };

    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self { tokens: self.tokens.saturating_add(other.tokens), money: self.money.plus(other.money) }
    }

    #[must_use]
    pub fn minus(self, other: Self) -> Self {
        Self { tokens: self.tokens.saturating_sub(other.tokens), money: self.money.minus(other.money) }
    }

    /// None of it is more than that.
    #[must_use]
    pub fn fits(self, most: Self) -> bool {
        self.tokens <= most.tokens && self.money <= most.money
    }

    /// The larger of each.
    #[must_use]
    pub fn at_least(self, other: Self) -> Self {
        Self { tokens: self.tokens.max(other.tokens), money: self.money.max(other.money) }
    }
}
