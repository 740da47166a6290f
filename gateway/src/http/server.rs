//! The accept loop: one task for each connection, each with its time limits, all ended on shutdown.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tower::ServiceExt;

use super::stall::StallGuard;
use crate::state::SharedState;

/// Connections beyond those that carry a request: idle ones, and those that are refused.
const SPARE_CONNECTIONS: usize = 1024;
/// After a failed accept, as when the process has no file handle left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Accepts until shutdown begins; the connections go on as tasks of `state.tasks`.
pub async fn serve(listener: TcpListener, app: Router, state: SharedState) {
    let slots = Arc::new(Semaphore::new(state.config().server.max_concurrent_requests + SPARE_CONNECTIONS));
    loop {
        let accepted = tokio::select! {
            biased;
            () = state.shutdown.cancelled() => return,
            accepted = async {
                let slot = Arc::clone(&slots).acquire_owned().await;
                (slot, listener.accept().await)
            } => accepted,
        };
        match accepted {
            (Ok(slot), Ok((stream, peer))) => {
                let connection = connection(stream, peer, app.clone(), state.clone());
                state.tasks.spawn(async move {
                    connection.await;
                    drop(slot);
                });
            }
            (_, Err(error)) => {
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
            (Err(_), _) => return,
        }
    }
}

async fn connection(stream: TcpStream, peer: SocketAddr, app: Router, state: SharedState) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, %peer, "no TCP_NODELAY");
    }
    let limits = state.config().server.clone();
    let io = TokioIo::new(StallGuard::new(stream, limits.write_stall_timeout));
    let service = service_fn(move |request: hyper::Request<Incoming>| {
        let app = app.clone();
        async move {
            let mut request = request.map(Body::new);
            request.extensions_mut().insert(ConnectInfo(peer));
            match app.oneshot(request).await {
                Ok(response) => Ok::<_, Infallible>(response),
                Err(never) => match never {},
            }
        }
    });
    let serving = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.header_timeout)
        .serve_connection(io, service);
    let mut serving = std::pin::pin!(serving);
    let mut draining = false;
    let ended = loop {
        tokio::select! {
            ended = serving.as_mut() => break ended,
            () = state.shutdown.cancelled(), if !draining => {
                draining = true;
                serving.as_mut().graceful_shutdown();
            }
            () = state.abort.cancelled() => return,
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%peer, %error, "a connection ended early");
    }
}
