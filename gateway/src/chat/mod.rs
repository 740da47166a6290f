//! `POST /v1/chat/completions`: the life of a request, one stage a file.
//!
//! [`parse`] -> [`exact`] -> [`recall`] (embed, retrieve, select) -> [`route`] -> [`compose`] -> [`generate`] -> an
//! answer as [`json`] or [`stream`] -> [`afterwards`], off the path. [`Trail`] follows a request through all of them.
//!
//! Everything hangs on the future that answers: when the client goes away it is dropped, wherever it stands, and with
//! it the generation.

mod afterwards;
mod answer;
#[cfg(test)]
mod choices_tests;
mod compose;
mod directives;
mod exact;
mod fields;
mod form;
mod generate;
mod json;
mod parse;
mod pipeline;
mod recall;
mod route;
mod sampling;
#[cfg(test)]
mod scripted;
mod shadow;
mod stream;
#[cfg(test)]
mod tests;
mod tools;
mod trail;
mod turns;

use axum::body::Body;
use axum::extract::{Extension, State};
use axum::response::{IntoResponse, Response};
use http::HeaderMap;

pub use recall::embedded_text;
pub use shadow::Budget as ShadowBudget;

use crate::auth::Caller;
use crate::http::RequestInfo;
use crate::state::SharedState;
use trail::Trail;

/// Answers, or says why not; either way the trail is filed and the headers tell what happened.
pub async fn completions(
    State(state): State<SharedState>,
    Extension(info): Extension<RequestInfo>,
    Extension(caller): Extension<Caller>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    let mut trail = Trail::begin(state, info, caller);
    match pipeline::run(&mut trail, &headers, body).await {
        Ok(reply) => reply.into_response(trail),
        Err(error) => {
            let facts = trail.commit();
            trail.fail(error.status, error.body.message.clone());
            let mut response = error.into_response();
            response.extensions_mut().insert(facts);
            response
        }
    }
}
