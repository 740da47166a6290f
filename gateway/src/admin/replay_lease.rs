//! `/admin/v1/replay/lease`: see [`super::lease`].

use std::time::{Duration, Instant};

use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use http::StatusCode;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::body::Fields;
use super::lease::Grant;
use super::{Admin, AdminError};
use crate::error::ApiError;
use crate::http::Segment;

const DEFAULT_TTL_S: u64 = 60;
const MAX_HOLDER_BYTES: usize = 128;

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "LeaseApplication")]
pub struct Application {
    /// A name for people: host and process, say.
    #[schemars(length(min = 1, max = 128))]
    holder: String,
    #[serde(default)]
    ttl_s: Option<u64>,
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "LeaseRenewal")]
pub struct Renewal {
    #[serde(default)]
    ttl_s: Option<u64>,
}

#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "LeaseReleased")]
pub struct Released {
    released: bool,
}

pub async fn acquire(
    State(admin): State<Admin>,
    Fields(application): Fields<Application>,
) -> Result<(StatusCode, Json<Grant>), AdminError> {
    let holder = application.holder.trim();
    if holder.is_empty() || holder.len() > MAX_HOLDER_BYTES || holder.chars().any(char::is_control) {
        let message = format!("a holder's name has 1 to {MAX_HOLDER_BYTES} bytes and no control characters");
        return Err(AdminError::invalid("holder", message));
    }
    let ttl = Duration::from_secs(application.ttl_s.unwrap_or(DEFAULT_TTL_S));
    let grant = admin.lease().acquire(holder, ttl, Instant::now())?;
    tracing::info!(holder, lease = %grant.lease, "replay lease taken");
    Ok((StatusCode::CREATED, Json(grant)))
}

/// With an empty body, for as long as it was taken for.
pub async fn renew(
    State(admin): State<Admin>,
    Segment(id): Segment,
    body: Bytes,
) -> Result<Json<Grant>, AdminError> {
    let id = parse(&id)?;
    let renewal = if body.is_empty() {
        Renewal::default()
    } else {
        serde_json::from_slice(&body).map_err(|error| ApiError::bad_body(error.to_string()))?
    };
    let ttl = renewal.ttl_s.map(Duration::from_secs);
    Ok(Json(admin.lease().renew(id, ttl, Instant::now())?))
}

pub async fn release(State(admin): State<Admin>, Segment(id): Segment) -> Result<Json<Released>, AdminError> {
    let id = parse(&id)?;
    admin.lease().release(id, Instant::now())?;
    tracing::info!(lease = %id, "replay lease released");
    Ok(Json(Released { released: true }))
}

fn parse(id: &str) -> Result<Uuid, AdminError> {
    id.parse().map_err(|_| AdminError::NotFound("such lease".to_owned()))
}
