//! `GET /v1/models`: `auto`, then every tier by its name and by its model's id.

use axum::Json;
use axum::extract::{Extension, State};
use reprise_openai::{Model, ModelList};

use super::Segment;
use crate::auth::Caller;
use crate::error::ApiError;
use crate::state::{AppState, SharedState};

const OWNER: &str = "reprise";

pub async fn list(State(state): State<SharedState>, Extension(caller): Extension<Caller>) -> Json<ModelList> {
    Json(ModelList::new(models(&state, &caller)))
}

pub async fn one(
    State(state): State<SharedState>,
    Extension(caller): Extension<Caller>,
    Segment(id): Segment,
) -> Result<Json<Model>, ApiError> {
    let found = models(&state, &caller).into_iter().find(|model| model.id == id);
    found.map(Json).ok_or_else(|| ApiError::model_not_found(&id))
}

/// Those that the caller may use.
fn models(state: &AppState, caller: &Caller) -> Vec<Model> {
    let created = state.started_at.as_second();
    let mut models = vec![Model::new("auto", created, OWNER)];
    for tier in state.pool.iter().filter(|tier| caller.may_use(&tier.info().name)) {
        let info = tier.info();
        for id in [&info.name, &info.model] {
            if models.iter().all(|model| model.id != *id) {
                models.push(Model::new(id.as_str(), created, OWNER));
            }
        }
    }
    models
}
