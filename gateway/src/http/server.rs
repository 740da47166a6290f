//! The accept loop: one task for each connection, each with its time limits, all ended on shutdown.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

use super::connection;
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
                let connection = connection::serve(stream, peer, app.clone(), state.clone());
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
