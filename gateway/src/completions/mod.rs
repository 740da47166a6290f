//! `POST /v1/completions`: a text is gone on with as it stands, without turns and without a chat template. All that comes
//! between the request and its answer is [`crate::chat`]'s.

mod read;
mod tell;

use axum::response::Response;

use crate::chat::{self, Call, Came};
use crate::error::ApiError;

pub async fn completions(came: Came) -> Response {
    let call = Call { came, endpoint: "completions", looks_up: false, errors: renamed };
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
