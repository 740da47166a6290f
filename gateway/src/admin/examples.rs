//! `/admin/v1/examples`: what the cache remembers of a tenant.
//!
//! Every call names its tenant and works on that tenant's handle: an id of another tenant is not found.

use axum::Json;
use axum::extract::State;
use reprise_cache::{ExampleChange, ExampleId, Order, TenantCache, TenantId};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::body::Fields;
use super::example_view::ExampleView;
use super::pair::{check_answer, check_quality, check_source};
use super::query::Params;
use super::{Admin, AdminError};
use crate::http::Segment;
use crate::state::now_ms;

const DEFAULT_LIMIT: usize = 50;
const MAX_LIMIT: usize = 256;

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Wanted {
    #[schemars(regex(pattern = r"^[A-Za-z0-9_.-]{1,64}$"))]
    tenant: String,
    #[serde(default)]
    order: OrderName,
    /// Only what holds this in request, answer or source, in whatever case.
    #[serde(default)]
    find: String,
    #[serde(default)]
    limit: Option<usize>,
    /// The last id of the page before.
    #[serde(default)]
    after: Option<String>,
}

/// Largest or newest first, or what eviction would take first.
#[derive(Debug, Clone, Copy, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum OrderName {
    Gain,
    Value,
    #[default]
    Recent,
    Eviction,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Owner {
    #[schemars(regex(pattern = r"^[A-Za-z0-9_.-]{1,64}$"))]
    tenant: String,
}

#[derive(Debug, Default, Serialize, JsonSchema)]
#[schemars(rename = "ExampleList")]
pub struct Examples {
    data: Vec<ExampleView>,
    has_more: bool,
}

/// What changes; absent fields stay as they are.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "ExampleChange")]
pub struct Change {
    #[serde(default)]
    answer: Option<String>,
    #[serde(default)]
    #[schemars(range(min = 0.0, max = 1.0))]
    quality: Option<f32>,
    #[serde(default)]
    source_tier: Option<String>,
    /// Counts one more replay.
    #[serde(default)]
    replayed: bool,
}

#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "ExamplesDeleted")]
pub struct Deleted {
    deleted: usize,
}

pub async fn list(
    State(admin): State<Admin>,
    Params(wanted): Params<Wanted>,
) -> Result<Json<Examples>, AdminError> {
    let tenant: TenantId = wanted.tenant.parse()?;
    let after = match wanted.after.as_deref() {
        Some(id) => {
            Some(id.parse().map_err(|_| AdminError::invalid("after", "this is no id of an example"))?)
        }
        None => None,
    };
    let order = match wanted.order {
        OrderName::Gain => Order::Gain,
        OrderName::Value => Order::Value,
        OrderName::Recent => Order::Recent,
        OrderName::Eviction => Order::Eviction,
    };
    let limit = wanted.limit.unwrap_or(DEFAULT_LIMIT).clamp(1, MAX_LIMIT);
    admin
        .blocking(move |admin| {
            let Some(cache) = known(admin, &tenant)? else { return Ok(Json(Examples::default())) };
            let page = cache.find(&wanted.find, order, limit, after, now_ms());
            let data = page.examples.iter().map(|example| ExampleView::from(&**example)).collect();
            Ok(Json(Examples { data, has_more: page.has_more }))
        })
        .await?
}

pub async fn show(
    State(admin): State<Admin>,
    Segment(id): Segment,
    Params(owner): Params<Owner>,
) -> Result<Json<ExampleView>, AdminError> {
    let (tenant, id) = (owner.tenant.parse()?, parse(&id)?);
    let example = known(&admin, &tenant)?.and_then(|cache| cache.get(id)).ok_or_else(no_example)?;
    Ok(Json(ExampleView::from(&*example)))
}

pub async fn change(
    State(admin): State<Admin>,
    Segment(id): Segment,
    Params(owner): Params<Owner>,
    Fields(change): Fields<Change>,
) -> Result<Json<ExampleView>, AdminError> {
    let (tenant, id) = (owner.tenant.parse()?, parse(&id)?);
    let change = change.checked()?;
    admin
        .blocking(move |admin| {
            let cache = known(admin, &tenant)?.ok_or_else(no_example)?;
            let changed = cache.update(id, &change, now_ms())?;
            Ok(Json(ExampleView::from(&*changed)))
        })
        .await?
}

pub async fn delete(
    State(admin): State<Admin>,
    Segment(id): Segment,
    Params(owner): Params<Owner>,
) -> Result<Json<Deleted>, AdminError> {
    let (tenant, id) = (owner.tenant.parse()?, parse(&id)?);
    admin
        .blocking(move |admin| {
            let cache = known(admin, &tenant)?.ok_or_else(no_example)?;
            if cache.delete(id)? { Ok(Json(Deleted { deleted: 1 })) } else { Err(no_example()) }
        })
        .await?
}

/// Everything of this tenant, stored answers too.
pub async fn clear(
    State(admin): State<Admin>,
    Params(owner): Params<Owner>,
) -> Result<Json<Deleted>, AdminError> {
    let tenant: TenantId = owner.tenant.parse()?;
    admin
        .blocking(move |admin| {
            let deleted = known(admin, &tenant)?.map_or(Ok(0), |cache| cache.clear())?;
            tracing::info!(%tenant, deleted, "a tenant's memory was cleared");
            Ok(Json(Deleted { deleted }))
        })
        .await?
}

impl Change {
    fn checked(self) -> Result<ExampleChange, AdminError> {
        self.answer.as_deref().map_or(Ok(()), check_answer)?;
        self.quality.map_or(Ok(()), check_quality)?;
        self.source_tier.as_deref().map_or(Ok(()), check_source)?;
        let Self { answer, quality, source_tier, replayed } = self;
        Ok(ExampleChange { answer, quality, source: source_tier, replayed })
    }
}

/// The handle of a tenant that has something; to ask for one that has not must not make it.
fn known(admin: &Admin, tenant: &TenantId) -> Result<Option<TenantCache>, AdminError> {
    let cache = admin.app().cache().ok_or_else(AdminError::no_cache)?;
    Ok(cache.tenants().contains(tenant).then(|| cache.tenant(tenant)))
}

fn parse(id: &str) -> Result<ExampleId, AdminError> {
    id.parse().map_err(|_| no_example())
}

fn no_example() -> AdminError {
    AdminError::NotFound("such example of this tenant".to_owned())
}
