//! `GET /admin/v1/outcomes`: rated answers whose prompts held examples, with the embeddings: what a utility model is trained
//! on.
//!
//! They come from the decision log, so only the newest requests are here: the replay job fetches them each time it runs and
//! keeps them in its own table.

use axum::Json;
use axum::extract::State;
use reprise_cache::TenantCache;
use schemars::JsonSchema;
use serde::Serialize;

use super::{Admin, AdminError};
use crate::decisions::DecisionRecord;

#[derive(Debug, Serialize, JsonSchema)]
pub struct Outcomes {
    /// Newest first.
    data: Vec<Row>,
}

#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "OutcomeRow")]
struct Row {
    request_id: String,
    tier: String,
    model: String,
    /// Relative cost of the tier, and how able it is taken to be, both in [0, 1].
    cost: f64,
    strength: f64,
    /// What the answer was rated, in [0, 1].
    quality: f32,
    /// Of the question.
    embedding: Vec<f32>,
    request_bytes: usize,
    /// Similarity of the nearest example, shown or not.
    nearest: f32,
    prompt_tokens: u32,
    completion_tokens: u32,
    /// In the prompt's order; none for an answer without. One that was deleted since is left out, and its row with it.
    examples: Vec<Shown>,
}

#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "OutcomeExample")]
struct Shown {
    embedding: Vec<f32>,
    similarity: f32,
    utility: f32,
    quality: Option<f32>,
    bytes: usize,
}

pub async fn list(State(admin): State<Admin>) -> Result<Json<Outcomes>, AdminError> {
    admin
        .blocking(|admin| {
            let cache = admin.app().cache().ok_or_else(AdminError::no_cache)?;
            let records = admin.app().decisions.newest(usize::MAX);
            let rows = records.iter().filter_map(|record| row(admin, &cache.tenant(&record.tenant), record));
            Ok(Json(Outcomes { data: rows.collect() }))
        })
        .await?
}

fn row(admin: &Admin, tenant: &TenantCache, record: &DecisionRecord) -> Option<Row> {
    let pool = &admin.app().pool;
    let (index, tier) = pool.get(record.tier.as_deref()?)?;
    let usage = record.usage.unwrap_or_default();
    let shown = |used: &crate::decisions::UsedExample| {
        let example = tenant.get(used.id)?;
        Some(Shown {
            embedding: example.embedding.as_slice().to_vec(),
            similarity: used.similarity,
            utility: used.utility,
            quality: example.quality,
            bytes: used.request.len() + used.answer.len(),
        })
    };
    Some(Row {
        request_id: record.request_id.to_string(),
        tier: tier.info().name.clone(),
        model: tier.info().model.clone(),
        cost: tier.info().cost,
        strength: pool.strength(index),
        quality: record.rating?,
        embedding: record.embedding.as_ref()?.as_slice().to_vec(),
        request_bytes: record.request_bytes,
        nearest: record.similarity.unwrap_or_default(),
        prompt_tokens: usage.prompt_tokens,
        completion_tokens: usage.completion_tokens,
        examples: record.examples.iter().map(shown).collect::<Option<_>>()?,
    })
}
