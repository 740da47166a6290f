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
/// Events of one burst: nobody reads more.
const MOST: usize = 10;

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

    /// What there is, as far as it goes into a burst, behind the number of those that are left out.
    fn gather(&mut self, first: Result<News, RecvError>) -> Option<()> {
        let (mut news, mut skipped) = (VecDeque::with_capacity(self.news.len() + 1), 0);
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
        }
        skipped += thin(&mut news);
        if skipped > 0 {
            self.burst.extend(named("skipped", Skipped { skipped }));
        }
        self.burst.extend(news.iter().filter_map(event));
        Some(())
    }
}

/// Leaves out of more than a burst takes: what the end of the same request tells as well, which nobody misses, and the oldest. Returns
/// how many of those told of an end.
fn thin(news: &mut VecDeque<News>) -> u64 {
    if news.len() <= MOST {
        return 0;
    }
    let (mut kept, mut over) = (VecDeque::with_capacity(MOST), 0);
    // The newest first, so that an end is seen before its beginning.
    while let Some(one) = news.pop_back() {
        let full = kept.len() == MOST;
        match &one {
            News::Ended(_) | News::Remembered { .. } if full => over += 1,
            News::Begun { request_id, .. } | News::Answering { request_id, .. }
                if full || kept.iter().any(|later| is_end_of(later, request_id)) => {}
            _ => kept.push_front(one),
        }
    }
    *news = kept;
    over
}

fn is_end_of(news: &News, request_id: &str) -> bool {
    matches!(news, News::Ended(record) if *record.request_id == *request_id)
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
    // Not `json_data`: that looks for line ends in each piece that the writer writes, of which JSON has one for each name.
    match serde_json::to_string(&data) {
        Ok(data) => Some(Event::default().event(name).data(data)),
        Err(error) => {
            tracing::error!(%error, "an event could not be written");
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use axum::body::BodyDataStream;
    use futures::StreamExt;
    use http::{Method, StatusCode};

    use super::*;
    use crate::admin::testing::{Fixture, LOCAL, record};

    async fn listen(fixture: &Fixture) -> BodyDataStream {
        fixture.raw(Method::GET, "/events", &[], LOCAL, None).await.into_body().into_data_stream()
    }

    fn begun(fixture: &Fixture, request_id: &str) {
        fixture.app.decisions.tell(|| News::Begun {
            request_id: request_id.into(),
            created: Timestamp::UNIX_EPOCH,
            tenant: "t".parse().unwrap(),
            endpoint: "chat",
        });
    }

    /// The lines of the next piece of a stream.
    async fn next(events: &mut BodyDataStream) -> String {
        String::from_utf8(events.next().await.unwrap().unwrap().to_vec()).unwrap()
    }

    #[tokio::test]
    async fn a_request_is_told_to_those_who_listen_and_a_slow_one_hears_how_many_it_missed() {
        let fixture = Fixture::new(None);
        let mut events = listen(&fixture).await;
        fixture.app.decisions.add(record("req_1", 5.0));
        let told = next(&mut events).await;
        assert!(told.contains("event: request") && told.contains("\"request_id\":\"req_1\""), "{told}");
        for n in 0..100 {
            fixture.app.decisions.add(record(&format!("late_{n}"), 5.0));
        }
        let told = next(&mut events).await;
        assert!(told.contains("event: skipped"), "{told}");
        fixture.app.shutdown.cancel();
        while events.next().await.is_some() {}
    }

    #[tokio::test]
    async fn of_more_than_a_burst_takes_beginnings_whose_end_is_told_go_first_and_are_not_missed() {
        let fixture = Fixture::new(None);
        let mut events = listen(&fixture).await;
        begun(&fixture, "under way");
        for n in 1..MOST {
            begun(&fixture, &format!("req_{n}"));
            fixture.app.decisions.add(record(&format!("req_{n}"), 5.0));
        }
        let told = next(&mut events).await;
        assert!(told.contains("event: begun") && told.contains("under way"), "{told}");
        for n in 1..MOST {
            let told = next(&mut events).await;
            assert!(told.contains("event: request") && told.contains(&format!("\"req_{n}\"")), "{told}");
        }
    }

    #[tokio::test]
    async fn of_more_ends_than_a_burst_takes_the_newest_are_told_and_the_others_counted() {
        let fixture = Fixture::new(None);
        let mut events = listen(&fixture).await;
        for n in 0..MOST + 7 {
            begun(&fixture, &format!("req_{n}"));
            fixture.app.decisions.add(record(&format!("req_{n}"), 5.0));
        }
        let told = next(&mut events).await;
        assert!(told.contains("event: skipped") && told.contains(r#""skipped":7"#), "{told}");
        for n in 7..MOST + 7 {
            let told = next(&mut events).await;
            assert!(told.contains("event: request") && told.contains(&format!("\"req_{n}\"")), "{told}");
        }
    }

    #[tokio::test]
    async fn only_so_many_may_listen() {
        let fixture = Fixture::new(None);
        let mut open = Vec::new();
        for _ in 0..MAX_READERS {
            open.push(fixture.raw(Method::GET, "/events", &[], LOCAL, None).await);
        }
        let late = fixture.raw(Method::GET, "/events", &[], LOCAL, None).await;
        assert_eq!(late.status(), StatusCode::SERVICE_UNAVAILABLE);
        drop(open);
        let later = fixture.raw(Method::GET, "/events", &[], LOCAL, None).await;
        assert_eq!(later.status(), StatusCode::OK);
    }
}
