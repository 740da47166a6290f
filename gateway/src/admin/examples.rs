//! `/admin/v1/examples`: what the cache remembers of a tenant.
//!
//! Every call names its tenant and works on that tenant's handle: an id of another tenant is not found.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use reprise_cache::{Example, ExampleId, Order, TenantCache, TenantId};
use serde::{Deserialize, Serialize};

use super::body::Fields;
use super::pair::{check_answer, check_quality, check_source};
use super::query::Params;
use super::{Admin, AdminError};
use crate::state::now_ms;

const DEFAULT_LIMIT: usize = 50;
const MAX_LIMIT: usize = 256;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Page {
    tenant: String,
    #[serde(default)]
    order: OrderName,
    #[serde(default)]
    limit: Option<usize>,
    /// The last id of the page before.
    #[serde(default)]
    after: Option<String>,
}

/// Largest first, in each.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
enum OrderName {
    Gain,
    Value,
    #[default]
    Recent,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Owner {
    tenant: String,
}

#[derive(Debug, Serialize)]
pub struct Examples {
    data: Vec<ExampleView>,
    has_more: bool,
}

/// What changes; absent fields stay as they are.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Change {
    #[serde(default)]
    answer: Option<String>,
    #[serde(default)]
    quality: Option<f32>,
    #[serde(default)]
    source_tier: Option<String>,
    /// Counts one more replay.
    #[serde(default)]
    replayed: bool,
}

#[derive(Debug, Serialize)]
pub struct Deleted {
    deleted: usize,
}
