//! HTTP: routes, and what holds for every request whatever its route.

mod body;
mod caller;
mod connection;
mod envelope;
mod health;
mod models;
mod routes;
pub mod scrape;
mod segment;
mod server;
mod stall;
mod streams;

use axum::Router;
use axum::middleware::from_fn_with_state;
use http::{Method, StatusCode, Uri};
use reprise_openai::{ErrorBody, kind};

pub use body::{LARGE, json_body};
pub use envelope::{Facts, RequestInfo};
pub use segment::Segment;
pub use server::serve;

use crate::error::ApiError;
use crate::openapi::Operation;
use crate::state::SharedState;
use crate::{admin, console};

/// All routes.
pub fn app(state: &SharedState) -> Router {
    let keyed = routes::keyed().into_router();
    Router::new()
        .merge(keyed.route_layer(from_fn_with_state(state.clone(), caller::authenticate)))
        .merge(routes::open().into_router())
        .merge(console::router())
        .method_not_allowed_fallback(wrong_method)
        .fallback(not_found)
        .merge(admin::router(state))
        .layer(from_fn_with_state(state.clone(), envelope::wrap))
        .with_state(state.clone())
}

/// What the routes take and give, for the OpenAPI document.
pub fn operations() -> Vec<Operation> {
    let tables = [routes::keyed().into_operations(), admin::operations(), routes::open().into_operations()];
    tables.into_iter().flatten().collect()
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
