//! The admin interface, `/admin/v1`: what the console and the replay job work through.
//!
//! It is guarded as a whole (see [`guard`]): by the admin key, or, where none is configured, by being local. Handlers
//! only translate; what they show and change belongs to the cache, the router and the decision log.

mod audit;
mod body;
mod counts;
mod decisions;
mod error;
mod events;
mod example_view;
mod examples;
mod guard;
mod import;
mod journal;
mod keys;
mod lease;
pub mod origin;
mod outcomes;
mod overview;
mod pair;
mod pool;
mod quantiles;
mod query;
mod replay_lease;
mod replay_runs;
mod router;
mod routes;
mod runs;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
mod usage;
mod utility;

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::extract::OriginalUri;
use axum::middleware;
use http::{Method, StatusCode};
use parking_lot::{Mutex, MutexGuard};
use reprise_openai::{ErrorBody, kind};
use tokio::sync::Semaphore;

pub use error::AdminError;

use crate::error::ApiError;
use crate::openapi::Operation;
use crate::state::{AppState, SharedState};
use audit::AuditLog;
use lease::LeaseDesk;
use runs::RunLog;

/// Shared by all admin handlers.
#[derive(Debug, Clone)]
pub struct Admin(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    app: SharedState,
    /// Held for microseconds.
    lease: Mutex<LeaseDesk>,
    /// Held while the disk syncs: locked on blocking threads only. Opened at first use.
    runs: Mutex<Option<RunLog>>,
    /// As `runs`.
    audit: Mutex<Option<AuditLog>>,
    calls: AtomicU64,
    /// Event streams that may be open at once.
    readers: Arc<Semaphore>,
}

/// The routes under `/admin/v1`. The server must give them the peer's address as `ConnectInfo<SocketAddr>`.
pub fn router<S: Clone + Send + Sync + 'static>(app: &SharedState) -> axum::Router<S> {
    let admin = Admin(Arc::new(Inner {
        app: Arc::clone(app),
        lease: Mutex::default(),
        runs: Mutex::default(),
        audit: Mutex::default(),
        calls: AtomicU64::new(1),
        readers: Arc::new(Semaphore::new(events::MAX_READERS)),
    }));
    let router = routes::table()
        .into_router()
        .method_not_allowed_fallback(wrong_method)
        .fallback(nothing_here)
        .layer(middleware::from_fn_with_state(admin.clone(), guard::guard))
        .with_state(admin);
    axum::Router::new().nest(routes::PREFIX, router)
}

/// What the routes take and give.
pub fn operations() -> Vec<Operation> {
    routes::table().into_operations()
}

async fn nothing_here(OriginalUri(uri): OriginalUri) -> AdminError {
    AdminError::NotFound(format!("{} here", uri.path()))
}

async fn wrong_method(method: Method, OriginalUri(uri): OriginalUri) -> ApiError {
    let message = format!("{method} is not for {}", uri.path());
    let body = ErrorBody::new(kind::INVALID_REQUEST, message).with_code("method_not_supported");
    ApiError::new(StatusCode::METHOD_NOT_ALLOWED, body)
}

impl Admin {
    fn app(&self) -> &AppState {
        &self.0.app
    }

    fn lease(&self) -> MutexGuard<'_, LeaseDesk> {
        self.0.lease.lock()
    }

    /// Blocks.
    fn with_runs<T>(&self, work: impl FnOnce(&mut RunLog) -> io::Result<T>) -> io::Result<T> {
        work(opened(&mut self.0.runs.lock(), RunLog::open, &self.app().data_dir())?)
    }

    /// Blocks.
    fn with_audit<T>(&self, work: impl FnOnce(&mut AuditLog) -> io::Result<T>) -> io::Result<T> {
        work(opened(&mut self.0.audit.lock(), AuditLog::open, &self.app().data_dir())?)
    }

    fn readers(&self) -> Arc<Semaphore> {
        Arc::clone(&self.0.readers)
    }

    fn next_call(&self) -> u64 {
        self.0.calls.fetch_add(1, Ordering::Relaxed)
    }

    /// Runs what touches the disk or computes away from the async threads.
    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Self) -> T + Send + 'static,
    ) -> Result<T, AdminError> {
        let admin = self.clone();
        Ok(tokio::task::spawn_blocking(move || work(&admin)).await?)
    }
}

/// What failed to open is tried again at the next call: the disk may have been made room on.
fn opened<'a, T>(
    slot: &'a mut Option<T>,
    open: impl FnOnce(&Path) -> io::Result<T>,
    data_dir: &Path,
) -> io::Result<&'a mut T> {
    match slot {
        Some(log) => Ok(log),
        None => Ok(slot.insert(open(data_dir)?)),
    }
}
