//! `/admin/v1/utility`: the models that score examples, and which of them does.
//!
//! The replay job trains one and puts it here; version 0 is the similarity prior, to which one can always go back.

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use http::HeaderMap;
use reprise_cache::selection::UtilityModel;
use reprise_cache::{Cache, UtilityVersion};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::body::Fields;
use super::{Admin, AdminError};
use crate::http::json_body;

#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "UtilityVersions")]
pub struct Versions {
    /// 0: the prior.
    active: u32,
    data: Vec<UtilityVersion>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "UtilitySwitch")]
pub struct Switch {
    version: u32,
}

#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "UtilitySwitched")]
pub struct Switched {
    active: u32,
    previous: u32,
}

pub async fn list(State(admin): State<Admin>) -> Result<Json<Versions>, AdminError> {
    admin
        .blocking(|admin| {
            let cache = cache(admin)?;
            Ok(Json(Versions { active: cache.utility().version, data: cache.utility_versions()? }))
        })
        .await?
}

/// The model is checked as a whole before anything changes; it scores from the next request on.
pub async fn install(
    State(admin): State<Admin>,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<Switched>, AdminError> {
    let body = json_body(&headers, body, &admin.app().config().server).await?;
    admin
        .blocking(move |admin| {
            let model: UtilityModel = serde_json::from_value(Value::Object(body))
                .map_err(|error| AdminError::invalid("model", error.to_string()))?;
            let cache = cache(admin)?;
            let previous = cache.utility().version;
            let active = cache.install_utility(model)?;
            tracing::info!(active, previous, "a utility model was installed");
            Ok(Json(Switched { active, previous }))
        })
        .await?
}

pub async fn activate(
    State(admin): State<Admin>,
    Fields(wanted): Fields<Switch>,
) -> Result<Json<Switched>, AdminError> {
    admin
        .blocking(move |admin| {
            let cache = cache(admin)?;
            let previous = cache.utility().version;
            if !cache.activate_utility(wanted.version)? {
                return Err(AdminError::NotFound(format!("utility model with version {}", wanted.version)));
            }
            tracing::info!(active = wanted.version, previous, "another utility model scores");
            Ok(Json(Switched { active: wanted.version, previous }))
        })
        .await?
}

fn cache(admin: &Admin) -> Result<&Cache, AdminError> {
    admin.app().cache().map(AsRef::as_ref).ok_or_else(AdminError::no_cache)
}
