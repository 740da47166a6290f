//! `POST /v1/feedback`: how an answer was, told by who got it.
//!
//! It credits the examples that stood in the prompt, teaches the router, and sets the quality of the example that the
//! answer became; a corrected text takes that example's place.

use axum::Json;
use axum::body::Body;
use axum::extract::{Extension, State};
use http::{HeaderMap, StatusCode};
use reprise_cache::{CacheError, ExampleChange, ExampleId, Outcome, TenantCache};
use reprise_openai::{ErrorBody, kind};
use reprise_router::Experience;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use tokio::task::spawn_blocking;

use crate::auth::Caller;
use crate::decisions::DecisionRecord;
use crate::error::ApiError;
use crate::http::json_body;
use crate::state::{AppState, SharedState, now_ms};

#[derive(Debug, Deserialize, JsonSchema)]
pub struct Feedback {
    request_id: String,
    #[serde(default)]
    #[schemars(range(min = 0.0, max = 1.0))]
    rating: Option<f32>,
    #[serde(default)]
    preference: Option<Preference>,
    #[serde(default)]
    corrected: Option<String>,
}

/// Against what would have been expected.
#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum Preference {
    Better,
    Same,
    Worse,
}

#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "FeedbackAccepted")]
pub struct Accepted {
    accepted: bool,
}

/// One opinion, in the terms of cache and router.
#[derive(Debug, Clone, PartialEq)]
struct Opinion {
    kind: &'static str,
    /// Of the answer that was given, in [0, 1].
    quality: f32,
    corrected: Option<String>,
}

pub async fn feedback(
    State(state): State<SharedState>,
    Extension(caller): Extension<Caller>,
    headers: HeaderMap,
    body: Body,
) -> Result<(StatusCode, Json<Accepted>), ApiError> {
    let body = json_body(&headers, body, &state.config().server).await?;
    let (request_id, opinion) = read(&body)?;
    let own = state.decisions.get(&caller.tenant, &request_id);
    let record = own.or_else(|| state.decisions.find(&request_id).filter(|_| caller.admin));
    let record = record.ok_or_else(|| not_found(&request_id))?;
    state.metrics.feedback.with_label_values(&[opinion.kind]).inc();
    spawn_blocking(move || apply(&state, &record, &opinion)).await.map_err(|_| ApiError::internal())?;
    Ok((StatusCode::ACCEPTED, Json(Accepted { accepted: true })))
}

fn read(body: &Map<String, Value>) -> Result<(String, Opinion), ApiError> {
    let feedback: Feedback = serde_path_to_error::deserialize(body).map_err(|error| {
        let path = error.path().to_string();
        ApiError::invalid(path.trim_start_matches('.'), error.inner().to_string())
    })?;
    let Feedback { request_id, rating, preference, corrected } = feedback;
    let opinion = match (rating, preference, corrected) {
        (Some(rating), None, None) if (0.0..=1.0).contains(&rating) => {
            Opinion { kind: "rating", quality: rating, corrected: None }
        }
        (Some(rating), None, None) => {
            return Err(ApiError::invalid(
                "rating",
                format!("Invalid 'rating': {rating} is not between 0 and 1."),
            ));
        }
        (None, Some(preference), None) => {
            let quality = match preference {
                Preference::Better => 1.0,
                Preference::Same => 0.5,
                Preference::Worse => 0.0,
            };
            Opinion { kind: "preference", quality, corrected: None }
        }
        (None, None, Some(text)) if !text.trim().is_empty() => {
            Opinion { kind: "corrected", quality: 0.0, corrected: Some(text) }
        }
        (None, None, Some(_)) => {
            return Err(ApiError::invalid("corrected", "'corrected' must not be empty."));
        }
        _ => {
            let message = "Give exactly one of 'rating', 'preference' and 'corrected'.";
            return Err(ApiError::invalid("rating", message));
        }
    };
    Ok((request_id, opinion))
}

/// Blocks on the store.
fn apply(state: &AppState, record: &DecisionRecord, opinion: &Opinion) {
    let mut first = false;
    state.decisions.update(&record.tenant, &record.request_id, |record| {
        first = record.rating.is_none();
        record.rating = Some(opinion.quality);
    });
    // What was said twice counts once.
    if first {
        teach(state, record, opinion.quality);
    }
    let Some(cache) = state.cache() else { return };
    let tenant = cache.tenant(&record.tenant);
    if first {
        credit(state, record, opinion.quality, &tenant);
    }
    if let Some(id) = record.admitted
        && let Err(error) = revise(&tenant, id, opinion)
    {
        tracing::warn!(request = %record.request_id, %error, "feedback did not reach the example");
    }
}

fn teach(state: &AppState, record: &DecisionRecord, quality: f32) {
    let (Some(decision), Some(arm)) = (&record.decision, &record.arm) else { return };
    let experience = Experience { arm: arm.clone(), ..decision.experience(f64::from(quality)) };
    state.router.learn(&experience);
    let examples = if arm.examples { "true" } else { "false" };
    state
        .metrics
        .answer_quality
        .with_label_values(&[&*arm.tier, examples, "feedback"])
        .observe(f64::from(quality));
}

fn credit(state: &AppState, record: &DecisionRecord, quality: f32, tenant: &TenantCache) {
    let ids: Vec<ExampleId> = record.examples.iter().map(|example| example.id).collect();
    let tier = record.tier.as_deref().and_then(|name| state.pool.get(name));
    let cost = tier.map_or(1.0, |(_, tier)| tier.info().cost) as f32;
    tenant.judge(&ids, &Outcome { quality: Some(quality), cost, offloaded: false }, now_ms());
}

fn revise(tenant: &TenantCache, id: ExampleId, opinion: &Opinion) -> Result<(), CacheError> {
    let change = match &opinion.corrected {
        Some(text) => {
            ExampleChange { answer: Some(text.clone()), quality: Some(1.0), ..ExampleChange::default() }
        }
        None => ExampleChange { quality: Some(opinion.quality), ..ExampleChange::default() },
    };
    match tenant.update(id, &change, now_ms()) {
        Ok(_) | Err(CacheError::UnknownExample(_)) => Ok(()),
        Err(error) => Err(error),
    }
}

fn not_found(request_id: &str) -> ApiError {
    let message = format!("No request '{request_id}' is known here: only the newest ones are.");
    let body =
        ErrorBody::new(kind::NOT_FOUND, message).with_param("request_id").with_code("request_not_found");
    ApiError::new(StatusCode::NOT_FOUND, body)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn of(body: Value) -> Result<Opinion, Option<String>> {
        let Value::Object(map) = body else { panic!("not an object") };
        read(&map).map(|(_, opinion)| opinion).map_err(|error| error.body.param)
    }

    #[test]
    fn one_opinion_is_read() {
        assert_eq!(of(json!({"request_id": "r", "rating": 0.25})).unwrap().quality, 0.25);
        assert_eq!(of(json!({"request_id": "r", "preference": "worse"})).unwrap().quality, 0.0);
        assert_eq!(of(json!({"request_id": "r", "corrected": "x"})).unwrap().corrected.as_deref(), Some("x"));
    }

    #[test]
    fn what_is_none_or_two_or_out_of_range_is_refused() {
        let param = |body: Value| of(body).unwrap_err().unwrap();
        assert_eq!(param(json!({"request_id": "r"})), "rating");
        assert_eq!(param(json!({"request_id": "r", "rating": 1.5})), "rating");
        assert_eq!(param(json!({"request_id": "r", "rating": 1, "corrected": "x"})), "rating");
        assert_eq!(param(json!({"request_id": "r", "preference": "meh"})), "preference");
        assert_eq!(param(json!({"request_id": "r", "corrected": " "})), "corrected");
    }
}
