//! `GET /admin/v1/usage`: what keys and tenants have used, by the ledger.

use axum::Json;
use axum::extract::State;
use reprise_accounts::{Account, Sum};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Admin;
use super::query::Params;

#[derive(Debug, Serialize, JsonSchema)]
pub struct UsageList {
    data: Vec<UsageView>,
}

#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "AccountUsage")]
struct UsageView {
    /// One of the two.
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tenant: Option<String>,
    /// UTC's.
    today: SumView,
    this_month: SumView,
    ever: SumView,
    /// By requests that are under way.
    reserved_tokens: u64,
}

#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "UsageSum")]
struct SumView {
    requests: u64,
    prompt_tokens: u64,
    completion_tokens: u64,
    /// In the currency of the tiers' prices.
    money: f64,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Filter {
    key: Option<String>,
    tenant: Option<String>,
}

/// Tenants first, then keys, each by name.
pub async fn list(State(admin): State<Admin>, Params(filter): Params<Filter>) -> Json<UsageList> {
    let mut usage = admin.app().desk.usage();
    usage.sort_by(|(a, ..), (b, ..)| b.cmp(a).reverse());
    usage.sort_by_key(|(account, ..)| matches!(account, Account::Key(_)));
    let wanted = usage.into_iter().filter(|(account, ..)| match (account, &filter) {
        (_, Filter { key: None, tenant: None }) => true,
        (Account::Key(id), Filter { key: Some(key), .. }) => **id == **key,
        (Account::Tenant(name), Filter { tenant: Some(tenant), .. }) => **name == **tenant,
        _ => false,
    });
    let data = wanted.map(|(account, [today, this_month, ever], reserved)| {
        let (key, tenant) = match account {
            Account::Key(id) => (Some(id.to_string()), None),
            Account::Tenant(name) => (None, Some(name.to_string())),
        };
        UsageView {
            key,
            tenant,
            today: today.into(),
            this_month: this_month.into(),
            ever: ever.into(),
            reserved_tokens: reserved.tokens,
        }
    });
    Json(UsageList { data: data.collect() })
}

impl From<Sum> for SumView {
    fn from(sum: Sum) -> Self {
        Self {
            requests: sum.requests,
            prompt_tokens: sum.prompt_tokens,
            completion_tokens: sum.completion_tokens,
            money: sum.money_nanos.units(),
        }
    }
}
