use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::books::Snapshot;
use crate::limits::{Account, Amount};
use crate::money::Money;

/// A line of the ledger.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Record {
    /// The first line of every file: all that the files before it led to.
    Snapshot(Box<Snapshot>),
    /// So much may be used at most. A second one with the same id takes the first one's place.
    Reserve {
        id: u64,
        /// Milliseconds since 1970.
        at: i64,
        #[serde(flatten)]
        payer: Payer,
        tokens: u64,
        money_nanos: Money,
    },
    /// So much was used; the reservation of this id is over. Where there was none, nothing had to be reserved.
    Settle {
        id: u64,
        at: i64,
        #[serde(flatten)]
        payer: Payer,
        #[serde(flatten)]
        used: Used,
    },
    /// So much may have been used without standing here, if the machine ended in the boot that is named. A second one of a
    /// payer takes the first one's place.
    Ahead {
        boot: Arc<str>,
        #[serde(flatten)]
        payer: Payer,
        tokens: u64,
        money_nanos: Money,
    },
}

/// Whose use it is: the tenant's, and that of one key of it where it came with one.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Payer {
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub key: Option<Arc<str>>,
    pub tenant: Arc<str>,
}

impl Payer {
    pub fn accounts(&self) -> impl Iterator<Item = Account> {
        let key = self.key.clone().map(Account::Key);
        key.into_iter().chain([Account::Tenant(Arc::clone(&self.tenant))])
    }
}

/// What a request has used in the end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Used {
    pub prompt_tokens: u64,
    pub completion_tokens: u64,
    pub money_nanos: Money,
    /// Who worked on it; nobody for an answer from the store.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub tier: Option<Arc<str>>,
    pub outcome: Outcome,
}

impl Used {
    #[must_use]
    pub fn nothing(outcome: Outcome) -> Self {
        Self { prompt_tokens: 0, completion_tokens: 0, money_nanos: Money::ZERO, tier: None, outcome }
    }

    /// All that was reserved, whichever part of it was really used.
    #[must_use]
    pub fn all(amount: Amount, outcome: Outcome) -> Self {
        Self { prompt_tokens: amount.tokens, money_nanos: amount.money, ..Self::nothing(outcome) }
    }

    #[must_use]
    pub fn amount(&self) -> Amount {
        Amount { tokens: self.prompt_tokens.saturating_add(self.completion_tokens), money: self.money_nanos }
    }
}

/// How the request ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    Answered,
    /// From the store: no tier worked.
    Hit,
    Failed,
    /// The client went away.
    Cancelled,
    /// The gateway ended in the middle of it: all that was reserved counts. So does what stood ahead when the machine ended.
    Lost,
}
