//! The OpenAPI document of everything that is served but the console's files.
//!
//! It is made of the tables that also make the router ([`Routes`]), and of the very types that are read and written, so that there is
//! no second text to keep. `reprise openapi` prints it, `GET /openapi.json` serves it, `gateway/openapi.json` is the same.

mod document;
mod headers;
mod operation;
mod routes;
mod schemas;
#[cfg(test)]
mod tests;

use std::sync::LazyLock;

use axum::response::{IntoResponse, Response};
use http::header::CONTENT_TYPE;

pub use operation::{Contract, Operation};
pub use routes::Routes;

static TEXT: LazyLock<String> = LazyLock::new(|| {
    let document = document::document(&crate::http::operations());
    format!("{document:#}\n")
});

/// The whole document, as JSON.
pub fn text() -> &'static str {
    &TEXT
}

/// `GET /openapi.json`.
pub async fn show() -> Response {
    ([(CONTENT_TYPE, operation::JSON)], text()).into_response()
}
