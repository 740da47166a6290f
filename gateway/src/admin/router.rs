//! `/admin/v1/router`: what the router is and knows, and which policy decides.

use axum::Json;
use axum::extract::State;
use reprise_router::{PolicyKind, Router, RouterReport};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::body::Fields;
use super::{Admin, AdminError};

#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "RouterState")]
pub struct Report {
    #[serde(flatten)]
    router: RouterReport,
    /// Every name that `PUT policy` takes.
    policies: [PolicyKind; PolicyKind::ALL.len()],
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "PolicySwitch")]
pub struct Switch {
    #[schemars(with = "PolicyKind")]
    policy: String,
}

#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "PolicySwitched")]
pub struct Switched {
    policy: PolicyKind,
    previous: PolicyKind,
}

pub async fn show(State(admin): State<Admin>) -> Json<Report> {
    Json(report(&admin.app().router))
}

pub fn report(router: &Router) -> Report {
    Report { router: router.report(), policies: PolicyKind::ALL }
}

/// From the next decision on; a restart returns to the configured policy.
pub async fn switch(
    State(admin): State<Admin>,
    Fields(wanted): Fields<Switch>,
) -> Result<Json<Switched>, AdminError> {
    let policy: PolicyKind = wanted.policy.parse().map_err(|unknown: reprise_router::UnknownPolicy| {
        AdminError::invalid("policy", unknown.to_string())
    })?;
    let previous = admin.app().router.set_policy(policy);
    tracing::info!(%policy, %previous, "policy switched");
    Ok(Json(Switched { policy, previous }))
}
