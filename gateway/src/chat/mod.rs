//! `POST /v1/chat/completions`, and the life of every request for an answer, one stage a file.
//!
//! [`parse`] -> [`exact`] -> [`recall`] (embed, retrieve, select) -> [`route`] -> [`compose`] -> [`generate`] -> an
//! answer as [`json`] or [`stream`] -> [`afterwards`], off the path. [`Trail`] follows a request through all of them.
//! Other endpoints ([`crate::completions`], [`crate::responses`]) only read a body in their own way, and tell the answer in
//! their own [`dialect`].
//!
//! Everything hangs on the future that answers: when the client goes away it is dropped, wherever it stands, and with
//! it the generation.

mod afterwards;
mod answer;
#[cfg(test)]
mod choices_tests;
mod completion;
mod compose;
mod conversation;
#[cfg(test)]
mod conversation_tests;
mod dialect;
mod directives;
mod exact;
mod fields;
mod flight;
mod form;
#[cfg(test)]
mod form_tests;
mod generate;
mod json;
#[cfg(test)]
mod orders_tests;
mod parse;
mod pipeline;
mod recall;
#[cfg(test)]
mod resilience_tests;
mod route;
mod running;
mod sampling;
#[cfg(test)]
pub mod scripted;
mod shadow;
#[cfg(test)]
pub mod stage;
mod stream;
#[cfg(test)]
mod tests;
mod tools;
mod trail;
mod turns;

use std::sync::Arc;

use axum::RequestPartsExt as _;
use axum::body::Body;
use axum::extract::rejection::ExtensionRejection;
use axum::extract::{Extension, FromRequest, Request};
use axum::response::{IntoResponse, Response};
use http::HeaderMap;
use serde_json::{Map, Value};

pub use answer::told;
pub use completion::{ChatDialect, push};
pub use dialect::{Dialect, Events, Head, Written};
pub use flight::Flights;
pub use parse::Ask;
pub use recall::embedded_text;
pub use shadow::Budget as ShadowBudget;

use crate::auth::Caller;
use crate::error::ApiError;
use crate::http::RequestInfo;
use crate::state::{AppState, SharedState};
use trail::Trail;

pub async fn completions(came: Came) -> Response {
    let call = Call { came, endpoint: "chat", looks_up: false, errors: std::convert::identity };
    answer(call, |body, state| {
        let ask = Ask::read(body, &state.pool)?;
        let format =
            ChatDialect { include_usage: ask.include_usage, logprobs: ask.sampling.logprobs.is_some() };
        Ok((ask, Box::new(format)))
    })
    .await
}

/// A request for an answer, as it came in.
#[derive(Debug)]
pub struct Came {
    pub state: SharedState,
    pub info: RequestInfo,
    pub caller: Caller,
    pub headers: HeaderMap,
    pub body: Body,
}

impl FromRequest<SharedState> for Came {
    type Rejection = ExtensionRejection;

    async fn from_request(request: Request, state: &SharedState) -> Result<Self, Self::Rejection> {
        let (mut parts, body) = request.into_parts();
        let Extension(info) = parts.extract::<Extension<RequestInfo>>().await?;
        let Extension(caller) = parts.extract::<Extension<Caller>>().await?;
        Ok(Self { state: Arc::clone(state), info, caller, headers: parts.headers, body })
    }
}

/// What an endpoint makes of it.
#[derive(Debug)]
pub struct Call {
    pub came: Came,
    /// The label of the route.
    pub endpoint: &'static str,
    /// Reading the body looks into files.
    pub looks_up: bool,
    /// Fields in errors as the endpoint's clients know them.
    pub errors: fn(ApiError) -> ApiError,
}

/// What is asked, and how the answer is to be told.
pub type Read = (Ask, Box<dyn Dialect>);

/// Answers, or says why not; either way the trail is filed and the headers tell what happened. `read` may take its time: it
/// runs on a blocking thread if the body is large or the endpoint looks something up.
pub async fn answer(
    call: Call,
    read: impl FnOnce(Map<String, Value>, &AppState) -> Result<Read, ApiError> + Send + 'static,
) -> Response {
    let Call { came, endpoint, looks_up, errors } = call;
    let Came { state, info, caller, headers, body } = came;
    let mut trail = Trail::begin(state, info, caller, endpoint);
    match pipeline::run(&mut trail, &headers, body, looks_up, read).await {
        Ok(reply) => reply.into_response(trail),
        Err(error) => {
            let error = errors(error);
            let facts = trail.commit();
            trail.fail(error.status, error.body.message.clone());
            let mut response = error.into_response();
            response.extensions_mut().insert(facts);
            response
        }
    }
}
