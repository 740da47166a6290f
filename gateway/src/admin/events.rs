//! `GET /admin/v1/events`: server-sent events of every request for an answer, as it goes: `begun`, `answering`, `request`
//! (it has ended) and `remembered`.
//!
//! The channel is bounded and its senders never wait: a reader that is too slow loses the oldest events and is told how
//! many (`skipped`). Events are sent in bursts with a pause between, so that however many requests there are a reader costs
//! little; under load most are skipped. What was missed is in `router/decisions`.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::response::sse::{Event, KeepAlive, Sse};
use futures::{Stream, stream};
use jiff::Timestamp;
use reprise_cache::{ExampleId, TenantId};
use schemars::JsonSchema;
use serde::Serialize;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::{RecvError, TryRecvError};
use tokio::sync::{OwnedSemaphorePermit, TryAcquireError};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use super::decisions::Summary;
use super::{Admin, AdminError};
use crate::decisions::News;

/// Streams at once; each is a socket and a task.
pub const MAX_READERS: usize = 32;
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// Between two bursts: short to the eye, long beside what a burst costs.
const PAUSE: Duration = Duration::from_millis(200);
/// Events of one burst, the newest: nobody reads more.
const MOST: usize = 32;

/// What is read, and what ends it.
#[derive(Debug)]
struct Reader {
    news: Receiver<News>,
    shutdown: CancellationToken,
    /// Of this burst, not sent yet.
    burst: VecDeque<Event>,
    next_burst: Instant,
    /// Held for as long as the stream lives.
    _permit: OwnedSemaphorePermit,
}

#[derive(Debug, Serialize, JsonSchema)]
struct Skipped {
    skipped: u64,
}

#[derive(Debug, Serialize)]
struct Begun {
    request_id: Arc<str>,
    created: Timestamp,
    tenant: TenantId,
    endpoint: &'static str,
}

#[derive(Debug, Serialize)]
struct Answering {
    request_id: Arc<str>,
    tier: Arc<str>,
    examples: usize,
}

#[derive(Debug, Serialize)]
struct Remembered {
    request_id: Arc<str>,
    /// `None`: it was not taken as an example.
    example: Option<ExampleId>,
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
        news: admin.app().decisions.subscribe(),
        shutdown: admin.app().shutdown.clone(),
        burst: VecDeque::new(),
        next_burst: Instant::now(),
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
        while self.burst.is_empty() {
            tokio::select! {
                () = sleep_until(self.next_burst) => {}
                () = self.shutdown.cancelled() => return None,
            }
            let first = tokio::select! {
                first = self.news.recv() => first,
                () = self.shutdown.cancelled() => return None,
            };
            self.gather(first)?;
            self.next_burst = Instant::now() + PAUSE;
        }
        self.burst.pop_front()
    }

    /// The newest of what there is, behind the number of those that are left out.
    fn gather(&mut self, first: Result<News, RecvError>) -> Option<()> {
        let (mut news, mut skipped) = (VecDeque::with_capacity(MOST + 1), 0);
        match first {
            Ok(first) => news.push_back(first),
            Err(RecvError::Lagged(lost)) => skipped += lost,
            Err(RecvError::Closed) => return None,
        }
        // The channel bounds it.
        for _ in 0..=self.news.len() {
            match self.news.try_recv() {
                Ok(more) => news.push_back(more),
                Err(TryRecvError::Lagged(lost)) => skipped += lost,
                Err(TryRecvError::Empty | TryRecvError::Closed) => break,
            }
            if news.len() > MOST {
                news.pop_front();
                skipped += 1;
            }
        }
        if skipped > 0 {
            self.burst.extend(named("skipped", Skipped { skipped }));
        }
        self.burst.extend(news.iter().filter_map(event));
        Some(())
    }
}

fn event(news: &News) -> Option<Event> {
    match news.clone() {
        News::Begun { request_id, created, tenant, endpoint } => {
            named("begun", Begun { request_id, created, tenant, endpoint })
        }
        News::Answering { request_id, tier, examples } => {
            named("answering", Answering { request_id, tier, examples })
        }
        News::Ended(record) => named("request", Summary::of(&record)),
        News::Remembered { request_id, example } => named("remembered", Remembered { request_id, example }),
    }
}

fn named(name: &str, data: impl Serialize) -> Option<Event> {
    match Event::default().event(name).json_data(data) {
        Ok(event) => Some(event),
        Err(error) => {
            tracing::error!(%error, "an event could not be written");
            None
        }
    }
}
