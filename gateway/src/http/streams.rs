//! What the streams of an HTTP/2 connection do: whether there is one, and whether the client takes what it is sent.
//!
//! Under HTTP/1.1 a client that reads nothing stalls its connection, which [`super::stall`] sees. Here it only has to withhold the
//! window of a stream: then hyper does not ask for the next piece of that body, which is seen here.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, Bytes};
use hyper::body::{Frame, SizeHint};
use parking_lot::Mutex;
use tokio::time::Instant;

#[derive(Debug, Clone)]
pub struct Streams(Arc<Mutex<Table>>);

#[derive(Debug)]
struct Table {
    /// By number: since when a piece of it waits to be taken; `None`: the gateway has nothing to send.
    open: HashMap<u64, Option<Instant>>,
    begun: u64,
    /// When the last of them ended, or the connection began.
    quiet_since: Instant,
}

/// One of them; it ends when this is dropped.
#[derive(Debug)]
pub struct Stream {
    number: u64,
    streams: Streams,
}

/// A body whose pieces are noted as they are taken.
#[derive(Debug)]
struct Watched {
    body: Body,
    stream: Stream,
}

impl Default for Streams {
    fn default() -> Self {
        Self(Arc::new(Mutex::new(Table { open: HashMap::new(), begun: 0, quiet_since: Instant::now() })))
    }
}

impl Streams {
    pub fn begin(&self) -> Stream {
        let mut table = self.0.lock();
        table.begun += 1;
        let number = table.begun;
        table.open.insert(number, None);
        Stream { number, streams: self.clone() }
    }

    /// How long there has been none; zero while there is one.
    pub fn idle_for(&self) -> Duration {
        let table = self.0.lock();
        if table.open.is_empty() { table.quiet_since.elapsed() } else { Duration::ZERO }
    }

    /// How long the client has left a piece lie.
    pub fn stalled_for(&self) -> Duration {
        let table = self.0.lock();
        table.open.values().flatten().map(Instant::elapsed).max().unwrap_or_default()
    }
}

impl Stream {
    pub fn around(self, body: Body) -> Body {
        Body::new(Watched { body, stream: self })
    }

    fn waits(&self, since: Option<Instant>) {
        self.streams.0.lock().open.insert(self.number, since);
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        let mut table = self.streams.0.lock();
        table.open.remove(&self.number);
        table.quiet_since = Instant::now();
    }
}

impl hyper::body::Body for Watched {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        self.stream.waits(polled.is_ready().then(Instant::now));
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use futures::StreamExt;
    use tokio::time::advance;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_piece_that_is_not_taken_is_noticed_and_one_that_is_not_there_is_not() {
        let streams = Streams::default();
        let pieces = futures::stream::iter([Ok::<_, std::io::Error>("a"), Ok("b")]);
        let body = streams.begin().around(Body::from_stream(pieces.chain(futures::stream::pending())));
        let mut taken = body.into_data_stream();
        advance(Duration::from_secs(9)).await;
        assert_eq!((streams.idle_for(), streams.stalled_for()), (Duration::ZERO, Duration::ZERO));
        assert_eq!(taken.next().await.unwrap().unwrap(), "a");
        advance(Duration::from_secs(9)).await;
        assert_eq!(streams.stalled_for(), Duration::from_secs(9));
        assert_eq!(taken.next().await.unwrap().unwrap(), "b");
        assert!(futures::poll!(taken.next()).is_pending());
        advance(Duration::from_secs(9)).await;
        assert_eq!(streams.stalled_for(), Duration::ZERO, "the gateway is what is waited for");
        drop(taken);
        advance(Duration::from_secs(3)).await;
        assert_eq!(streams.idle_for(), Duration::from_secs(3));
    }
}
