//! `/admin/v1/router/decisions`: what was decided for the newest requests, and why.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use jiff::Timestamp;
use reprise_cache::{ExampleId, TenantId};
use reprise_router::PolicyKind;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::query::Params;
use super::{Admin, AdminError};
use crate::decisions::{CacheStatus, DecisionRecord, Timings};
use crate::http::Segment;

const DEFAULT_LIMIT: usize = 50;

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Page {
    #[serde(default)]
    limit: Option<usize>,
}

#[derive(Debug, Serialize, JsonSchema)]
pub struct Decisions {
    /// Newest first.
    data: Vec<Summary>,
}

/// A record without the texts and scores, which `decisions/{request_id}` has.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[schemars(rename = "DecisionSummary")]
pub struct Summary {
    request_id: Arc<str>,
    created: Timestamp,
    tenant: TenantId,
    tier: Option<String>,
    cache: CacheStatus,
    status: u16,
    error: Option<String>,
    example_count: usize,
    similarity: Option<f32>,
    policy: Option<PolicyKind>,
    straight: bool,
    timings: Timings,
    rating: Option<f32>,
    /// The example that the answer became.
    admitted: Option<ExampleId>,
}

pub async fn list(State(admin): State<Admin>, Params(page): Params<Page>) -> Json<Decisions> {
    Json(Decisions { data: newest(&admin, page.limit.unwrap_or(DEFAULT_LIMIT)) })
}

pub async fn show(
    State(admin): State<Admin>,
    Segment(request_id): Segment,
) -> Result<Json<Arc<DecisionRecord>>, AdminError> {
    let record = admin.app().decisions.find(&request_id);
    record.map(Json).ok_or_else(|| AdminError::NotFound("decision kept for this request".to_owned()))
}

pub fn newest(admin: &Admin, limit: usize) -> Vec<Summary> {
    admin.app().decisions.newest(limit).iter().map(|record| Summary::of(record)).collect()
}

impl Summary {
    pub fn of(record: &DecisionRecord) -> Self {
        Self {
            request_id: Arc::clone(&record.request_id),
            created: record.created,
            tenant: record.tenant.clone(),
            tier: record.tier.clone(),
            cache: record.cache,
            status: record.status,
            error: record.error.clone(),
            example_count: record.examples.len(),
            similarity: record.similarity,
            policy: record.decision.as_ref().map(|decision| decision.policy),
            straight: record.straight,
            timings: record.timings,
            rating: record.rating,
            admitted: record.admitted,
        }
    }
}
