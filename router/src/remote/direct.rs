//! HTTP/1.1 without TLS, as to a server in the same network: each connection is driven by the task of the request that uses it.
//!
//! reqwest gives a connection a task of its own, which hands a stream over piece by piece. On two cores these switches of tasks
//! took longer than all that is done with the pieces.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use bytes::Bytes;
use hyper::body::{Body as _, Incoming};
use hyper::client::conn::http1;
use hyper::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HOST, HeaderValue, USER_AGENT};
use hyper::{Request, Response, Uri};
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use reprise_tier::TierError;
use reqwest::{Body, Url};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::failure;
use super::rounds::Rounds;

/// A connection that nobody has used for so long is closed.
const KEPT_FOR: Duration = Duration::from_secs(60);

/// A place to post to, and the connections to it that wait for the next request.
#[derive(Debug)]
pub struct Direct {
    host: String,
    port: u16,
    uri: Uri,
    host_header: HeaderValue,
    key: Option<HeaderValue>,
    user_agent: HeaderValue,
    connect_within: Duration,
    /// Those used last at the end.
    kept: Mutex<VecDeque<(Instant, Connection)>>,
}

#[derive(Debug)]
struct Connection {
    sender: http1::SendRequest<Body>,
    driver: Pin<Box<http1::Connection<TokioIo<TcpStream>, Body>>>,
    rounds: Rounds,
    /// The driver's work is done; it must not be polled any more.
    ended: bool,
}

/// An answer, whose body is read from its connection. Dropping it closes that.
#[derive(Debug)]
pub struct Reply {
    connection: Connection,
    response: Response<Incoming>,
}

/// What may stand between this process and a server, by the environment's variables: reqwest knows how to speak to it.
const PROXIES: [&str; 4] = ["http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"];

impl Direct {
    /// `None` if more is needed than this can do: TLS, a proxy, a password in the URL.
    pub fn to(
        url: &Url,
        key: Option<&HeaderValue>,
        user_agent: &str,
        connect_within: Duration,
    ) -> Option<Self> {
        let proxied = PROXIES.iter().any(|name| std::env::var_os(name).is_some_and(|set| !set.is_empty()));
        if url.scheme() != "http" || proxied || !url.username().is_empty() || url.password().is_some() {
            return None;
        }
        let (host, port) = (url.host_str()?, url.port_or_known_default()?);
        let path =
            url.query().map_or_else(|| url.path().to_owned(), |query| format!("{}?{query}", url.path()));
        let host_header = url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"));
        Some(Self {
            // An IPv6 address stands in brackets in a URL, and nowhere else.
            host: host.trim_matches(['[', ']']).to_owned(),
            port,
            uri: path.parse().ok()?,
            host_header: host_header.parse().ok()?,
            key: key.cloned(),
            user_agent: user_agent.parse().ok()?,
            connect_within,
            kept: Mutex::default(),
        })
    }

    /// Posts JSON; returns once the head of the answer has come.
    pub async fn post(&self, json: Bytes, traceparent: Option<&HeaderValue>) -> Result<Reply, TierError> {
        while let Some(mut connection) = self.kept() {
            match connection.send(self.request(&json, traceparent)).await {
                Ok(response) => return Ok(Reply { connection, response }),
                // It was closed while it waited: nothing was sent.
                Err(error) if error.is_canceled() => {}
                Err(error) => return Err(failure::of_connection(&error)),
            }
        }
        let mut connection = self.connect().await?;
        match connection.send(self.request(&json, traceparent)).await {
            Ok(response) => Ok(Reply { connection, response }),
            Err(error) => Err(failure::of_connection(&error)),
        }
    }

    /// After the whole answer: its connection may serve the next request.
    pub fn keep(&self, reply: Reply) {
        let Reply { mut connection, response } = reply;
        drop(response);
        let mut kept = self.kept.lock();
        while kept.front().is_some_and(|(since, _)| since.elapsed() > KEPT_FOR) {
            kept.pop_front();
        }
        if connection.rests() {
            kept.push_back((Instant::now(), connection));
        }
    }

    fn kept(&self) -> Option<Connection> {
        loop {
            let (since, mut connection) = self.kept.lock().pop_back()?;
            if since.elapsed() <= KEPT_FOR && connection.rests() {
                return Some(connection);
            }
        }
    }

    async fn connect(&self) -> Result<Connection, TierError> {
        let connecting = TcpStream::connect((self.host.as_str(), self.port));
        let stream = match timeout(self.connect_within, connecting).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => return Err(failure::broken(&format!("cannot connect: {error}"))),
            Err(_) => return Err(failure::broken("cannot connect: operation timed out")),
        };
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "no TCP_NODELAY");
        }
        let shaken = http1::handshake(TokioIo::new(stream)).await;
        let (sender, driver) = shaken.map_err(|error| failure::of_connection(&error))?;
        Ok(Connection { sender, driver: Box::pin(driver), rounds: Rounds::default(), ended: false })
    }

    fn request(&self, json: &Bytes, traceparent: Option<&HeaderValue>) -> Request<Body> {
        let mut request = Request::new(Body::from(json.clone()));
        *request.method_mut() = hyper::Method::POST;
        *request.uri_mut() = self.uri.clone();
        let headers = request.headers_mut();
        headers.insert(HOST, self.host_header.clone());
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(ACCEPT, HeaderValue::from_static("*/*"));
        headers.insert(USER_AGENT, self.user_agent.clone());
        if let Some(key) = &self.key {
            headers.insert(AUTHORIZATION, key.clone());
        }
        if let Some(traceparent) = traceparent {
            headers.insert("traceparent", traceparent.clone());
        }
        request
    }
}

impl Connection {
    async fn send(&mut self, request: Request<Body>) -> hyper::Result<Response<Incoming>> {
        let mut answer = pin!(self.sender.send_request(request));
        let (driver, ended, rounds) = (&mut self.driver, &mut self.ended, &self.rounds);
        poll_fn(|context| {
            rounds.poll(context, |context| {
                drive(driver, ended, context);
                answer.as_mut().poll(context)
            })
        })
        .await
    }

    /// Nothing is under way on it, and the other side has not closed it.
    fn rests(&mut self) -> bool {
        drive(&mut self.driver, &mut self.ended, &mut Context::from_waker(Waker::noop()));
        !self.ended && self.sender.is_ready()
    }
}

/// An error of the connection comes to whoever waits for its answer.
fn drive(
    driver: &mut Pin<Box<http1::Connection<TokioIo<TcpStream>, Body>>>,
    ended: &mut bool,
    context: &mut Context<'_>,
) {
    if !*ended && driver.as_mut().poll(context).is_ready() {
        *ended = true;
    }
}

impl Reply {
    pub fn response(&self) -> &Response<Incoming> {
        &self.response
    }

    /// The next piece of the body; `None` at its end.
    pub async fn chunk(&mut self) -> hyper::Result<Option<Bytes>> {
        let Self { connection: Connection { driver, ended, rounds, .. }, response } = self;
        poll_fn(|context| {
            rounds.poll(context, |context| {
                if let Poll::Ready(piece) = data(response.body_mut(), context) {
                    return Poll::Ready(piece);
                }
                drive(driver, ended, context);
                data(response.body_mut(), context)
            })
        })
        .await
    }
}

fn data(body: &mut Incoming, context: &mut Context<'_>) -> Poll<hyper::Result<Option<Bytes>>> {
    loop {
        match Pin::new(&mut *body).poll_frame(context) {
            Poll::Pending => return Poll::Pending,
            Poll::Ready(None) => return Poll::Ready(Ok(None)),
            Poll::Ready(Some(Err(error))) => return Poll::Ready(Err(error)),
            Poll::Ready(Some(Ok(frame))) => match frame.into_data() {
                Ok(data) if !data.is_empty() => return Poll::Ready(Ok(Some(data))),
                // Trailers.
                Ok(_) | Err(_) => {}
            },
        }
    }
}
