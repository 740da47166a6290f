//! The stages in their order.

use std::time::Instant;

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::HeaderMap;
use http::header::CONTENT_TYPE;
use reprise_cache::StoredAnswer;
use reprise_cache::selection::Chosen;
use reprise_openai::Usage;
use reprise_tier::Finish;
use serde_json::{Map, Value};
use tokio::task::spawn_blocking;

use super::afterwards::Lesson;
use super::answer::{reason_text, stored_usage, usage_of};
use super::dialect::{Dialect, Written};
use super::directives::Directives;
use super::flight::{self, Waited};
use super::generate::Attempts;
use super::parse::Ask;
use super::route::plan;
use super::running::Running;
use super::stream::Writing;
use super::trail::{Stage, Trail};
use super::{Read, exact, json};
use crate::error::ApiError;
use crate::http::{LARGE, json_body};
use crate::state::{AppState, SharedState};

/// An answer on its way out.
#[derive(Debug)]
pub enum Reply {
    Json {
        body: Bytes,
        /// Of all choices together.
        finish: Finish,
    },
    Stream {
        running: Box<Running>,
        dialect: Box<dyn Dialect>,
        /// Choices of one prompt.
        each: u32,
        lesson: Box<Lesson>,
    },
    /// From the store, in either form.
    Stored { text: String, usage: Usage, model: String, stream: bool, dialect: Box<dyn Dialect> },
}

/// # Errors
/// The request cannot be answered; nothing was sent yet.
pub async fn run(
    trail: &mut Trail,
    headers: &HeaderMap,
    body: Body,
    looks_up: bool,
    read: impl FnOnce(Map<String, Value>, &AppState) -> Result<Read, ApiError> + Send + 'static,
) -> Result<Reply, ApiError> {
    trail.take_slot()?;
    let directives = Directives::read(headers)?;
    let body = json_body(headers, body, &trail.state.config().server).await?;
    let begun = Instant::now();
    let (mut ask, dialect) = parse(trail, headers, body, looks_up, read).await?;
    trail.time(Stage::Parse, begun, begun.elapsed());
    trail.asked(&ask);
    if let Some(tiers) = trail.caller.tiers() {
        ask.restrict(tiers, &trail.state.pool)?;
    }
    if ask.pinned.is_some() {
        trail.pin();
    }
    if ask.max_tokens.is_none() && trail.charge.limits_tokens() {
        ask.max_tokens = Some(trail.state.config().auth.default_max_tokens);
    }
    let (key, stored) = exact::find(trail, &ask, &directives);
    let (stored, flight) = match stored {
        None => match flight::join(trail, &ask, &directives, key.as_ref()).await {
            Waited::Answered(stored) => (Some(stored), None),
            Waited::Alone(flight) => (None, flight),
        },
        stored => (stored, None),
    };
    if let Some(stored) = stored {
        trail.charge.reserve(0, 0)?;
        return Ok(repeat(trail, &ask, dialect, &stored));
    }
    let (prompt, most) = reservation(trail, &ask);
    trail.charge.reserve(prompt, most)?;
    let deadline = Instant::now() + trail.state.config().decision_deadline;
    let plan = plan(trail, &ask, &directives, deadline).await?;
    let examples: u32 = plan.examples.iter().map(|example| example.tokens).sum();
    trail.charge.cover(prompt + u64::from(examples), most)?;
    if let Some(nearest) = plan.reuse.as_ref().filter(|_| ask.is_plain()) {
        return Ok(reuse(trail, &ask, dialect, nearest));
    }
    let lesson = Lesson::new(trail, &ask, &directives, &plan, key, flight);
    let mut attempts = Attempts::new(trail, &ask, &directives, &plan);
    if ask.stream {
        let running = Box::new(attempts.start(trail).await?);
        trail.charge.recorded().await?;
        return Ok(Reply::Stream { running, dialect, each: ask.choices, lesson: Box::new(lesson) });
    }
    let (body, finish) = json::answer(trail, &ask, &*dialect, &mut attempts, lesson).await?;
    Ok(Reply::Json { body, finish })
}

/// Tokens of prompt and completion to reserve. Where they are not limited it is enough for most, so that the ledger need not be
/// waited for a second time.
fn reservation(trail: &Trail, ask: &Ask) -> (u64, u64) {
    let (prompt, most) = (u64::from(ask.estimated_tokens()), ask.most_tokens());
    if trail.charge.limits_tokens() {
        return (prompt, most.unwrap_or(0));
    }
    let assumed = || u64::from(trail.state.config().auth.default_max_tokens) * u64::from(ask.generations());
    (2 * prompt + 64, most.unwrap_or_else(assumed))
}

async fn parse(
    trail: &Trail,
    headers: &HeaderMap,
    body: Map<String, Value>,
    looks_up: bool,
    read: impl FnOnce(Map<String, Value>, &AppState) -> Result<Read, ApiError> + Send + 'static,
) -> Result<Read, ApiError> {
    let length =
        headers.get(http::header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
    if !looks_up && length.is_some_and(|length: usize| length <= LARGE) {
        return read(body, &trail.state);
    }
    let state: SharedState = trail.state.clone();
    spawn_blocking(move || read(body, &state)).await.map_err(|_| ApiError::internal())?
}

fn repeat(trail: &mut Trail, ask: &Ask, dialect: Box<dyn Dialect>, stored: &StoredAnswer) -> Reply {
    trail.reused(&stored.tier, &stored.model, 1.0, stored_usage(stored));
    Reply::Stored {
        usage: stored_usage(stored),
        text: stored.text.clone(),
        model: stored.model.clone(),
        stream: ask.stream,
        dialect,
    }
}

/// The policy `reuse`: the nearest answer as it is. A hit whose similarity is under 1 is one of these.
fn reuse(trail: &mut Trail, ask: &Ask, dialect: Box<dyn Dialect>, nearest: &Chosen) -> Reply {
    let source = nearest.example.source.as_str();
    let model =
        trail.state.pool.get(source).map_or(source, |(_, tier)| tier.info().model.as_str()).to_owned();
    trail.reused(source, &model, nearest.similarity, Usage::default());
    Reply::Stored {
        text: nearest.example.answer.clone(),
        usage: Usage::default(),
        model,
        stream: ask.stream,
        dialect,
    }
}

impl Reply {
    pub fn into_response(self, mut trail: Trail) -> Response {
        let facts = trail.commit();
        let mut response = match self {
            Self::Json { body, finish } => {
                trail.finish(usage_of(&finish), reason_text(finish.reason), Some(&finish));
                json_response(body)
            }
            Self::Stream { running, dialect, each, lesson } => {
                events(Writing::new(*running, &*dialect, each, trail, *lesson).into_body())
            }
            Self::Stored { text, usage, model, stream, dialect } => {
                let head = dialect.head(trail.created_second(), &model);
                trail.finish(usage, "stop", None);
                if stream {
                    let mut writer = dialect.events(head, 1);
                    writer.piece(0, text, Vec::new());
                    writer.end(0, "stop");
                    writer.done(usage);
                    let events_of =
                        std::iter::from_fn(move || writer.take()).map(Ok::<_, std::convert::Infallible>);
                    events(Body::from_stream(futures::stream::iter(events_of)))
                } else {
                    let written = Written { text, reason: "stop", ..Written::default() };
                    match dialect.whole(head, vec![written], usage) {
                        Ok(body) => json_response(body),
                        Err(_) => ApiError::internal().into_response(),
                    }
                }
            }
        };
        response.extensions_mut().insert(facts);
        response
    }
}

fn json_response(body: Bytes) -> Response {
    ([(CONTENT_TYPE, "application/json")], body).into_response()
}

fn events(body: Body) -> Response {
    ([(CONTENT_TYPE, "text/event-stream; charset=utf-8")], body).into_response()
}
