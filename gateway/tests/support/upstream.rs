//! An OpenAI-compatible server of the tests: it answers as its script says, and counts.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use futures::StreamExt as _;
use futures::stream;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::net::TcpListener;

/// What the upstream does with one request.
#[derive(Debug, Clone)]
pub enum Script {
    /// A proper answer with this text, streamed if that was asked for.
    Answer(&'static str),
    /// The same, each word a token with log probabilities, whether they were asked for or not.
    AnswerWithLogprobs(&'static str),
    /// This status with this body.
    Status(u16, &'static str),
    /// 200, and a body that is no OpenAI answer.
    Garbage,
    /// A stream that breaks off after its first words.
    DieMidStream(&'static str),
    /// A stream of 32 MB in large pieces: more than sockets hold, so that a writer has to wait for its reader.
    Flood,
    /// First words, and then nothing for as long as the client bears it.
    Stall(&'static str),
    /// Nothing at all until [`Upstream::release`], and then a proper answer.
    Held(&'static str),
    /// The first answer to come says so many tokens in all; streamed.
    Says(&'static str, u32),
}

#[derive(Debug)]
struct Shared {
    next: Mutex<VecDeque<Script>>,
    otherwise: Mutex<Script>,
    seen: Mutex<Vec<Value>>,
    heads: Mutex<Vec<HeaderMap>>,
    requests: AtomicUsize,
    /// Streams whose reader has not gone.
    open: AtomicUsize,
    /// Held answers may go.
    released: tokio::sync::watch::Sender<bool>,
}

#[derive(Debug)]
pub struct Upstream {
    pub base_url: String,
    shared: Arc<Shared>,
    server: tokio::task::JoinHandle<()>,
}

impl Upstream {
    /// Listens on a port of its own; does what `script` says with every request.
    pub async fn start(script: Script) -> Self {
        let shared = Arc::new(Shared {
            next: Mutex::default(),
            otherwise: Mutex::new(script),
            seen: Mutex::default(),
            heads: Mutex::default(),
            requests: AtomicUsize::new(0),
            open: AtomicUsize::new(0),
            released: tokio::sync::watch::Sender::new(false),
        });
        let app = Router::new()
            .route("/v1/chat/completions", post(complete))
            .route(
                "/v1/models",
                get(|| async {
                    Json(json!({"object": "list", "data": [{"id": "upstream-model", "object": "model"}]}))
                }),
            )
            .with_state(Arc::clone(&shared));
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a free port");
        let base_url = format!("http://{}/v1", listener.local_addr().expect("its address"));
        let server = tokio::spawn(async move {
            axum::serve(listener, app).await.expect("the upstream serves");
        });
        Self { base_url, shared, server }
    }

    /// From now on.
    pub fn play(&self, script: Script) {
        *self.shared.otherwise.lock() = script;
    }

    /// For the next request only; several are played in order.
    pub fn play_once(&self, script: Script) {
        self.shared.next.lock().push_back(script);
    }

    /// Lets go what is held, and what will be.
    pub fn release(&self) {
        self.shared.released.send_replace(true);
    }

    pub fn requests(&self) -> usize {
        self.shared.requests.load(Ordering::SeqCst)
    }

    pub fn open_streams(&self) -> usize {
        self.shared.open.load(Ordering::SeqCst)
    }

    /// The body of the newest request.
    pub fn last(&self) -> Value {
        self.shared.seen.lock().last().cloned().expect("a request came")
    }

    /// A header of the newest request.
    pub fn last_header(&self, name: &str) -> Option<String> {
        let heads = self.shared.heads.lock();
        heads.last()?.get(name).map(|value| value.to_str().expect("a readable header").to_owned())
    }

    /// Refuses connections from now on.
    pub fn stop(&self) {
        self.server.abort();
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.server.abort();
    }
}

/// Counts a stream as open until its body is dropped.
struct Open(Arc<Shared>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::SeqCst);
    }
}

async fn complete(State(shared): State<Arc<Shared>>, head: HeaderMap, Json(body): Json<Value>) -> Response {
    shared.requests.fetch_add(1, Ordering::SeqCst);
    let streamed = body["stream"] == true;
    shared.heads.lock().push(head);
    shared.seen.lock().push(body);
    let script = shared.next.lock().pop_front().unwrap_or_else(|| shared.otherwise.lock().clone());
    match script {
        Script::Answer(text) if streamed => answer_streamed(text, false),
        Script::AnswerWithLogprobs(text) => answer_streamed(text, true),
        Script::Answer(text) => answer(text),
        Script::Status(status, body) => {
            (StatusCode::from_u16(status).expect("a status"), [("content-type", "application/json")], body)
                .into_response()
        }
        Script::Held(text) => {
            shared.open.fetch_add(1, Ordering::SeqCst);
            let _guard = Open(Arc::clone(&shared));
            let mut released = shared.released.subscribe();
            let _ = released.wait_for(|released| *released).await;
            answer_streamed(text, false)
        }
        Script::Says(text, tokens) => {
            let usage = json!({"choices": [], "usage": {"prompt_tokens": 7, "completion_tokens": tokens - 7, "total_tokens": tokens}});
            let parts =
                [chunk(text, Some("stop")), Bytes::from(format!("data: {usage}\n\ndata: [DONE]\n\n"))];
            events(Body::from_stream(stream::iter(parts.map(Ok::<_, Infallible>))))
        }
        Script::Garbage => ([("content-type", "text/html")], "<html>It works!</html>").into_response(),
        Script::DieMidStream(text) => {
            // A pause before the end, so that the words are really sent.
            let first = stream::iter([Ok(chunk(text, None))]);
            let death = stream::once(async {
                tokio::time::sleep(Duration::from_millis(200)).await;
                Err(std::io::Error::other("the upstream dies"))
            });
            events(Body::from_stream(first.chain(death)))
        }
        Script::Flood => {
            let piece = chunk(&"word ".repeat(3200), None);
            events(Body::from_stream(stream::iter(
                (0..2000).map(move |_| Ok::<_, Infallible>(piece.clone())),
            )))
        }
        Script::Stall(text) => {
            shared.open.fetch_add(1, Ordering::SeqCst);
            let guard = Open(Arc::clone(&shared));
            let first = stream::iter([Ok::<_, Infallible>(chunk(text, None))]);
            let forever = stream::pending().inspect(move |_: &Result<Bytes, Infallible>| {
                let _ = &guard;
            });
            events(Body::from_stream(first.chain(forever)))
        }
    }
}

fn answer(text: &str) -> Response {
    Json(json!({
        "id": "chatcmpl-upstream", "object": "chat.completion", "created": 1, "model": "upstream-model",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10},
    }))
    .into_response()
}

fn answer_streamed(text: &str, logprobs: bool) -> Response {
    let usage = json!({
        "id": "chatcmpl-upstream", "object": "chat.completion.chunk", "created": 1, "model": "upstream-model",
        "choices": [], "usage": {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10},
    });
    let piece = |word| if logprobs { chunk_with_logprobs(word) } else { chunk(word, None) };
    let mut parts: Vec<Bytes> = text.split_inclusive(' ').map(piece).collect();
    parts.push(chunk("", Some("stop")));
    parts.push(Bytes::from(format!("data: {usage}\n\n")));
    parts.push(Bytes::from_static(b"data: [DONE]\n\n"));
    events(Body::from_stream(stream::iter(parts.into_iter().map(Ok::<_, Infallible>))))
}

fn chunk(text: &str, finish_reason: Option<&str>) -> Bytes {
    let value = json!({
        "id": "chatcmpl-upstream", "object": "chat.completion.chunk", "created": 1, "model": "upstream-model",
        "choices": [{"index": 0, "delta": {"role": "assistant", "content": text}, "finish_reason": finish_reason}],
    });
    Bytes::from(format!("data: {value}\n\n"))
}

fn chunk_with_logprobs(word: &str) -> Bytes {
    let token = json!({
        "token": word, "logprob": -0.5, "bytes": word.as_bytes(),
        "top_logprobs": [{"token": word, "logprob": -0.5, "bytes": word.as_bytes()}],
    });
    let value = json!({
        "id": "chatcmpl-upstream", "object": "chat.completion.chunk", "created": 1, "model": "upstream-model",
        "choices": [{"index": 0, "delta": {"content": word}, "logprobs": {"content": [token]}, "finish_reason": null}],
    });
    Bytes::from(format!("data: {value}\n\n"))
}

fn events(body: Body) -> Response {
    ([("content-type", "text/event-stream")], body).into_response()
}
