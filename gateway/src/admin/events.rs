//! `GET /admin/v1/events`: server-sent events, one for each request as it ends.
//!
//! The channel is bounded and its senders never wait: a reader that is too slow loses the oldest events and is told how
//! many. What it missed is in `router/decisions`.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::response::sse::{Event, KeepAlive, Sse};
use futures::{Stream, stream};
use serde::Serialize;
use tokio::sync::broadcast::{Receiver, error::RecvError};
use tokio::sync::{OwnedSemaphorePermit, TryAcquireError};
use tokio_util::sync::CancellationToken;

use super::decisions::Summary;
use super::{Admin, AdminError};
use crate::decisions::DecisionRecord;

/// Streams at once; each is a socket and a task.
pub const MAX_READERS: usize = 32;
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// What is read, and what ends it.
#[derive(Debug)]
struct Reader {
    records: Receiver<Arc<DecisionRecord>>,
    shutdown: CancellationToken,
    /// Held for as long as the stream lives.
    _permit: OwnedSemaphorePermit,
}

#[derive(Debug, Serialize)]
struct Skipped {
    skipped: u64,
}

pub async fn follow(
    State(admin): State<Admin>,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>>>, AdminError> {
    let permit = admin.readers().try_acquire_owned().map_err(|error| match error {
        TryAcquireError::NoPermits => {
            AdminError::Unavailable(format!("{MAX_READERS} event streams are open already"))
        }
        TryAcquireError::Closed => AdminError::Unavailable("the gateway shuts down".to_owned()),
    })?;
    let reader = Reader {
        records: admin.app().decisions.subscribe(),
        shutdown: admin.app().shutdown.clone(),
        _permit: permit,
    };
    let events = stream::unfold(reader, |mut reader| async move {
        let event = reader.next().await?;
        Some((Ok(event), reader))
    });
    Ok(Sse::new(events).keep_alive(KeepAlive::new().interval(KEEP_ALIVE)))
}

impl Reader {
    /// `None` at the end: the gateway shuts down.
    async fn next(&mut self) -> Option<Event> {
        let received = tokio::select! {
            received = self.records.recv() => received,
            () = self.shutdown.cancelled() => return None,
        };
        let event = match received {
            Ok(record) => Event::default().event("request").json_data(Summary::of(&record)),
            Err(RecvError::Lagged(skipped)) => {
                Event::default().event("skipped").json_data(Skipped { skipped })
            }
            Err(RecvError::Closed) => return None,
        };
        match event {
            Ok(event) => Some(event),
            Err(error) => {
                tracing::error!(%error, "an event could not be written");
                None
            }
        }
    }
}
