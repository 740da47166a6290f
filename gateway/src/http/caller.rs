use std::net::SocketAddr;

use axum::extract::{ConnectInfo, Request, State};
use axum::middleware::Next;
use axum::response::Response;

use crate::admin::origin::{OriginError, check_local, check_page};
use crate::auth::{AuthError, Caller};
use crate::error::ApiError;
use crate::state::SharedState;

/// Puts the [`Caller`] of the key beside the request, or refuses it.
pub async fn authenticate(
    State(state): State<SharedState>,
    mut request: Request,
    next: Next,
) -> Result<Response, ApiError> {
    let caller = state.keys.caller(request.headers())?;
    if caller.anonymous {
        local(&request).map_err(AuthError::Foreign)?;
    }
    request.extensions_mut().insert::<Caller>(caller);
    Ok(next.run(request).await)
}

/// Without keys, being local is all the proof there is: not a page in this machine's browser, not what a proxy brings.
fn local(request: &Request) -> Result<(), OriginError> {
    let peer = request.extensions().get::<ConnectInfo<SocketAddr>>();
    let peer = peer.ok_or(OriginError::NotLocal)?.0;
    check_local(peer, request.uri(), request.headers())?;
    check_page(request.method(), request.uri(), request.headers())
}
