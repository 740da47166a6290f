//! HTTP: routes, and what holds for every request whatever its route.

mod body;
mod caller;
mod envelope;
mod health;
mod models;
pub mod scrape;
mod server;
mod stall;

use axum::Router;
use axum::middleware::from_fn_with_state;
use axum::routing::{get, post};
use http::{Method, StatusCode, Uri};
use reprise_openai::{ErrorBody, kind};

pub use body::{LARGE, json_body};
pub use envelope::{Facts, RequestInfo};
pub use server::serve;

use crate::error::ApiError;
use crate::state::SharedState;
use crate::{admin, chat, completions, console, embeddings, feedback, responses};

/// All routes.
pub fn app(state: &SharedState) -> Router {
    let openai = Router::new()
        .route("/v1/chat/completions", post(chat::completions))
        .route("/v1/completions", post(completions::completions))
        .route("/v1/embeddings", post(embeddings::embeddings))
        .route("/v1/feedback", post(feedback::feedback))
        .route("/v1/responses", post(responses::create))
        .route("/v1/responses/{id}", get(responses::get).delete(responses::delete))
        .route("/v1/responses/{id}/input_items", get(responses::input_items))
        .route("/v1/models", get(models::list))
        .route("/v1/models/{*id}", get(models::one))
        .route_layer(from_fn_with_state(state.clone(), caller::authenticate));
    Router::new()
        .merge(openai)
        .route("/livez", get(health::livez))
        .route("/readyz", get(health::readyz))
        .route("/metrics", get(scrape::metrics))
        .merge(console::router())
        .method_not_allowed_fallback(wrong_method)
        .fallback(not_found)
        .merge(admin::routes(state))
        .layer(from_fn_with_state(state.clone(), envelope::wrap))
        .with_state(state.clone())
}

async fn wrong_method(method: Method, uri: Uri) -> ApiError {
    let message = format!("Not allowed to {method} on {}.", uri.path());
    let body = ErrorBody::new(kind::INVALID_REQUEST, message).with_code("method_not_supported");
    ApiError::new(StatusCode::METHOD_NOT_ALLOWED, body)
}

async fn not_found(method: Method, uri: Uri) -> ApiError {
    let message = format!("Invalid URL ({method} {}).", uri.path());
    ApiError::new(
        StatusCode::NOT_FOUND,
        ErrorBody::new(kind::INVALID_REQUEST, message).with_code("unknown_url"),
    )
}
