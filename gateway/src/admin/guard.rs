//! Who may use the admin interface, and the note of what they change.

use std::net::SocketAddr;

use axum::extract::{ConnectInfo, OriginalUri, Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::Method;

use super::audit::{Call, Outcome};
use super::origin::{OriginError, changes_state, check_local, check_page};
use super::{Admin, AdminError};

/// The middleware around every admin route.
pub async fn guard(State(admin): State<Admin>, request: Request, next: Next) -> Response {
    let peer = request.extensions().get::<ConnectInfo<SocketAddr>>().map(|info| info.0);
    if let Err(refused) = admit(&admin, peer, &request) {
        tracing::warn!(?peer, path = request.uri().path(), reason = %refused, "admin call refused");
        return refused.into_response();
    }
    if !changes_state(request.method()) {
        return next.run(request).await;
    }
    let call = admin.next_call();
    let whole = request.extensions().get::<OriginalUri>().map_or_else(|| request.uri(), |whole| &whole.0);
    let (method, target) = (request.method().clone(), whole.to_string());
    if let Err(error) = note_call(&admin, call, peer, method, target).await {
        return error.into_response();
    }
    let response = next.run(request).await;
    let outcome = Outcome { at: jiff::Timestamp::now(), call, status: response.status().as_u16() };
    match admin.blocking(move |admin| admin.with_audit(|audit| audit.note(&outcome))).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::error!(%error, call, "the outcome of an admin call was not noted"),
        Err(error) => tracing::error!(%error, call, "the outcome of an admin call was not noted"),
    }
    response
}

fn admit(admin: &Admin, peer: Option<SocketAddr>, request: &Request) -> Result<(), AdminError> {
    check_page(request.method(), request.uri(), request.headers())?;
    if needs_key(admin) {
        let caller = admin.app().keys.caller(request.headers());
        return if caller.is_ok_and(|caller| caller.admin) { Ok(()) } else { Err(AdminError::Key) };
    }
    match peer {
        Some(peer) => Ok(check_local(peer, request.uri(), request.headers())?),
        None => Err(OriginError::NotLocal.into()),
    }
}

fn needs_key(admin: &Admin) -> bool {
    admin.app().config().auth.admin_key.is_some()
}

async fn note_call(
    admin: &Admin,
    call: u64,
    peer: Option<SocketAddr>,
    method: Method,
    target: String,
) -> Result<(), AdminError> {
    let by_key = needs_key(admin);
    let note = move |admin: &Admin| {
        let at = jiff::Timestamp::now();
        let line = Call { at, call, method: method.as_str(), target: &target, peer, by_key };
        admin.with_audit(|audit| audit.note(&line))
    };
    Ok(admin.blocking(note).await??)
}
