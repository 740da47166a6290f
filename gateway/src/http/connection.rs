//! One connection, from its first byte to its end: with TLS where there is a certificate, HTTP/1.1 or, where the client
//! asks for it in its handshake, HTTP/2.

use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::{Interval, MissedTickBehavior, interval, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_util::task::TaskTracker;
use tower::ServiceExt;

use super::stall::StallGuard;
use super::streams::Streams;
use crate::config::Server;
use crate::state::SharedState;

/// How often it is looked at whether an HTTP/2 connection is idle, or its client reads nothing.
const LOOK: Duration = Duration::from_secs(1);

pub async fn serve(stream: TcpStream, peer: SocketAddr, app: Router, state: SharedState) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, %peer, "no TCP_NODELAY");
    }
    let config = state.config();
    let stream = StallGuard::new(stream, config.server.write_stall_timeout);
    let visit = Visit { peer, app, limits: config.server.clone(), state };
    let ended = match &config.tls {
        None => visit.http1(stream).await,
        Some(tls) => visit.tls(stream, tls).await,
    };
    if let Err(error) = ended {
        tracing::debug!(%peer, %error, "a connection ended early");
    }
}

struct Visit {
    peer: SocketAddr,
    app: Router,
    limits: Server,
    state: SharedState,
}

type Ended = Result<(), Box<dyn std::error::Error + Send + Sync>>;

impl Visit {
    async fn tls<S>(self, stream: S, tls: &Arc<ServerConfig>) -> Ended
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let shutdown = self.state.shutdown.clone();
        let handshake = TlsAcceptor::from(Arc::clone(tls)).accept(stream);
        let stream = tokio::select! {
            shaken = timeout(self.limits.header_timeout, handshake) => shaken??,
            () = shutdown.cancelled() => return Ok(()),
        };
        match stream.get_ref().1.alpn_protocol() {
            Some(b"h2") => self.http2(stream).await,
            _ => self.http1(stream).await,
        }
    }

    async fn http1<S>(self, stream: S) -> Ended
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let Self { peer, app, limits, state } = self;
        let service = service_fn(move |request| answer(app.clone(), peer, request));
        let serving = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(limits.header_timeout)
            .serve_connection(TokioIo::new(stream), service);
        let mut serving = pin!(serving);
        until_ended(serving.as_mut(), http1::Connection::graceful_shutdown, None, &state).await
    }

    /// Here the limits of time that HTTP/1.1 has are kept by [`Streams`]: a stream that waits holds up no connection.
    async fn http2<S>(self, stream: S) -> Ended
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let Self { peer, app, limits, state } = self;
        let streams = Streams::default();
        let watched = streams.clone();
        let service = service_fn(move |request| {
            let (stream, answer) = (watched.begin(), answer(app.clone(), peer, request));
            async move { answer.await.map(|response| response.map(|body| stream.around(body))) }
        });
        let serving = http2::Builder::new(Owned(state.tasks.clone()))
            .timer(TokioTimer::new())
            .keep_alive_interval(limits.header_timeout)
            .keep_alive_timeout(limits.header_timeout)
            .serve_connection(TokioIo::new(stream), service);
        let mut serving = pin!(serving);
        let watch = Some(Watch::new(streams, limits));
        until_ended(serving.as_mut(), http2::Connection::graceful_shutdown, watch, &state).await
    }
}

/// Serves until the connection ends. On shutdown, and when it is idle, what runs is ended first.
async fn until_ended<C>(
    mut serving: Pin<&mut C>,
    begin_to_end: impl Fn(Pin<&mut C>),
    mut watch: Option<Watch>,
    state: &SharedState,
) -> Ended
where
    C: Future<Output = hyper::Result<()>>,
{
    let mut ending = false;
    loop {
        let verdict = async {
            match &mut watch {
                Some(watch) => watch.next().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            ended = serving.as_mut() => return Ok(ended?),
            () = state.abort.cancelled() => return Ok(()),
            () = state.shutdown.cancelled(), if !ending => {
                ending = true;
                begin_to_end(serving.as_mut());
            }
            verdict = verdict => match verdict {
                Verdict::GivenUp => return Ok(()),
                Verdict::Idle if ending => {}
                Verdict::Idle => {
                    ending = true;
                    begin_to_end(serving.as_mut());
                }
            }
        }
    }
}

enum Verdict {
    /// No request for as long as one may take to be sent.
    Idle,
    /// The client takes nothing of what it is sent.
    GivenUp,
}

/// Looks at an HTTP/2 connection from time to time.
struct Watch {
    streams: Streams,
    limits: Server,
    ticks: Interval,
}

impl Watch {
    fn new(streams: Streams, limits: Server) -> Self {
        let mut ticks = interval(LOOK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self { streams, limits, ticks }
    }

    async fn next(&mut self) -> Verdict {
        let Server { header_timeout, write_stall_timeout, .. } = self.limits;
        loop {
            self.ticks.tick().await;
            let (idle, stalled) = (self.streams.idle_for(), self.streams.stalled_for());
            // What the last streams left to be sent is given its time as well.
            if stalled > write_stall_timeout || idle > header_timeout + write_stall_timeout {
                return Verdict::GivenUp;
            }
            if idle > header_timeout {
                return Verdict::Idle;
            }
        }
    }
}

async fn answer(
    app: Router,
    peer: SocketAddr,
    request: Request<Incoming>,
) -> Result<Response<Body>, Infallible> {
    let mut request = request.map(Body::new);
    request.extensions_mut().insert(ConnectInfo(peer));
    app.oneshot(request).await
}

/// Streams of a connection are tasks that shutdown waits for.
#[derive(Debug, Clone)]
struct Owned(TaskTracker);

impl<F> hyper::rt::Executor<F> for Owned
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    fn execute(&self, stream: F) {
        self.0.spawn(stream);
    }
}
