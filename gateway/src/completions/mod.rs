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
use crate::http::RequestInfo;
use crate::state::SharedState;

pub async fn completions(
    State(state): State<SharedState>,
    Extension(info): Extension<RequestInfo>,
    Extension(caller): Extension<Caller>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    let call = Call { state, info, caller, headers, body };
    chat::answer(call, "completions", |body, state| read::read(body, &state.pool)).await
}
