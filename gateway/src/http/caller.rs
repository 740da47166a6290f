use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::Response;

use crate::error::ApiError;
use crate::state::SharedState;

/// Puts the [`Caller`](crate::auth::Caller) of the key beside the request, or refuses it.
pub async fn authenticate(
    State(state): State<SharedState>,
    mut request: Request,
    next: Next,
) -> Result<Response, ApiError> {
    let caller = state.keys.caller(request.headers())?;
    request.extensions_mut().insert(caller);
    Ok(next.run(request).await)
}
