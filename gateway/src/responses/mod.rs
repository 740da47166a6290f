//! `POST /v1/responses` and what was stored of its answers. A request is read as a chat request; all that comes between it
//! and its answer is [`crate::chat`]'s, and the answer is told in the shapes of the Responses API.

mod events;
mod input;
mod item;
mod names;
mod read;
mod store;
mod tell;
#[cfg(test)]
mod tests;

use axum::Json;
use axum::extract::{Extension, RawQuery, State};
use axum::response::Response;
use http::StatusCode;
use reprise_openai::responses::{Deleted, InputItems};
use reprise_openai::{ErrorBody, kind};
use serde_json::{Map, Value};
use tokio::task::spawn_blocking;

pub use store::ResponseStore;

use crate::auth::Caller;
use crate::chat::{self, Call, Came};
use crate::error::ApiError;
use crate::http::Segment;
use crate::state::SharedState;
use store::Record;

pub async fn create(came: Came) -> Response {
    let stored = came.state.responses.tenant(&came.caller.tenant);
    let call = Call { came, endpoint: "responses", looks_up: true, errors: names::renamed };
    chat::answer(call, move |body, state| read::read(body, state, stored)).await
}

pub async fn get(
    State(state): State<SharedState>,
    Extension(caller): Extension<Caller>,
    Segment(id): Segment,
    RawQuery(query): RawQuery,
) -> Result<Json<Value>, ApiError> {
    if query.is_some_and(|query| query.split('&').any(|pair| pair == "stream=true")) {
        let message = "Unsupported parameter: 'stream' is not supported here: stored responses are whole.";
        return Err(ApiError::unsupported("stream", message));
    }
    find(&state, &caller, id).await.map(|record| Json(record.response))
}

pub async fn input_items(
    State(state): State<SharedState>,
    Extension(caller): Extension<Caller>,
    Segment(id): Segment,
) -> Result<Json<InputItems>, ApiError> {
    let items = find(&state, &caller, id).await?.input;
    let data: Vec<Map<String, Value>> = items.into_iter().filter_map(as_map).collect();
    let id = |item: Option<&Map<String, Value>>| Some(item?.get("id")?.as_str()?.to_owned());
    let (first_id, last_id) = (id(data.first()), id(data.last()));
    Ok(Json(InputItems { object: "list".to_owned(), data, first_id, last_id, has_more: false }))
}

pub async fn delete(
    State(state): State<SharedState>,
    Extension(caller): Extension<Caller>,
    Segment(id): Segment,
) -> Result<Json<Deleted>, ApiError> {
    let stored = state.responses.tenant(&caller.tenant);
    let asked = id.clone();
    let deleted = spawn_blocking(move || stored.delete(&asked)).await.map_err(|_| ApiError::internal())?;
    match deleted {
        Ok(true) => Ok(Json(Deleted { id, object: "response".to_owned(), deleted: true })),
        Ok(false) => Err(not_found(&id)),
        Err(error) => {
            tracing::error!(%error, "a stored response was not deleted");
            Err(ApiError::internal())
        }
    }
}

async fn find(state: &SharedState, caller: &Caller, id: String) -> Result<Record, ApiError> {
    let stored = state.responses.tenant(&caller.tenant);
    let asked = id.clone();
    let found = spawn_blocking(move || stored.get(&asked)).await.map_err(|_| ApiError::internal())?;
    found.ok_or_else(|| not_found(&id))
}

fn as_map(item: Value) -> Option<Map<String, Value>> {
    match item {
        Value::Object(map) => Some(map),
        _ => None,
    }
}

fn not_found(id: &str) -> ApiError {
    let message = format!("Response with id '{id}' not found.");
    let body = ErrorBody::new(kind::INVALID_REQUEST, message).with_code("response_not_found");
    ApiError::new(StatusCode::NOT_FOUND, body)
}
