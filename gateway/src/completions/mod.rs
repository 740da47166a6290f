//! `POST /v1/completions`: a text is gone on with as it stands, without turns and without a chat template. All that comes
//! between the request and its answer is [`crate::chat`]'s.

mod read;
mod tell;

use axum::body::Body;
use axum::extract::{Extension, State};
use axum::response::Response;
use http::HeaderMap;

use crate::auth::Caller;
use crate::chat::{self, Call};
use crate::error::ApiError;
use crate::http::RequestInfo;
use crate::state::SharedState;

pub async fn completions(
    State(state): State<SharedState>,
    Extension(info): Extension<RequestInfo>,
    Extension(caller): Extension<Caller>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    let call = Call {
        state,
        info,
        caller,
        headers,
        body,
        endpoint: "completions",
        looks_up: false,
        errors: renamed,
    };
    chat::answer(call, |body, state| read::read(body, &state.pool)).await
}

/// What a tier says of messages is true of the prompt here.
fn renamed(mut error: ApiError) -> ApiError {
    if error.body.param.as_deref() == Some("messages") {
        error.body.param = Some("prompt".to_owned());
        error.body.message = error.body.message.replace("the messages hold", "the prompt holds");
    }
    error
}
