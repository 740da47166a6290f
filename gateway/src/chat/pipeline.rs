//! The stages in their order.

use std::time::Instant;

use axum::Json;
use axum::body::Body;
use axum::response::{IntoResponse, Response};
use http::HeaderMap;
use http::header::CONTENT_TYPE;
use reprise_cache::StoredAnswer;
use reprise_cache::selection::Chosen;
use reprise_openai::Usage;
use reprise_openai::chat::{ChatCompletion, Choice};
use reprise_tier::Finish;
use serde_json::{Map, Value};
use tokio::task::spawn_blocking;

use super::afterwards::Lesson;
use super::answer::{Head, stored_usage};
use super::directives::Directives;
use super::generate::{Attempts, Running};
use super::parse::Ask;
use super::route::plan;
use super::stream::{Format, Writer, Writing};
use super::trail::{Stage, Trail};
use super::{exact, json};
use crate::error::ApiError;
use crate::http::{LARGE, json_body};
use crate::state::SharedState;

/// An answer on its way out.
#[derive(Debug)]
pub enum Reply {
    Json {
        completion: Box<ChatCompletion>,
        finish: Finish,
    },
    Stream {
        running: Box<Running>,
        format: Format,
        lesson: Box<Lesson>,
    },
    /// From the store, in either form.
    Stored {
        text: String,
        usage: Usage,
        model: String,
        stream: bool,
        include_usage: bool,
    },
}

/// # Errors
/// The request cannot be answered; nothing was sent yet.
pub async fn run(trail: &mut Trail, headers: &HeaderMap, body: Body) -> Result<Reply, ApiError> {
    trail.take_slot()?;
    let directives = Directives::read(headers)?;
    let body = json_body(headers, body, &trail.state.config.server).await?;
    let begun = Instant::now();
    let ask = parse(trail, headers, body).await?;
    trail.time(Stage::Parse, begun.elapsed());
    if ask.pinned.is_some() {
        trail.pin();
    }
    let deadline = Instant::now() + trail.state.config.decision_deadline;
    let (key, stored) = exact::find(trail, &ask, &directives);
    if let Some(stored) = stored {
        return Ok(repeat(trail, &ask, &stored));
    }
    let plan = plan(trail, &ask, &directives, deadline).await?;
    if let Some(nearest) = plan.reuse.as_ref().filter(|_| ask.is_plain()) {
        return Ok(reuse(trail, &ask, nearest));
    }
    let lesson = Lesson::new(trail, &ask, &directives, &plan, key);
    let mut attempts = Attempts::new(trail, &ask, &directives, &plan);
    if ask.stream {
        let running = Box::new(attempts.start(trail).await?);
        let format = Format { include_usage: ask.include_usage, logprobs: ask.sampling.logprobs.is_some() };
        return Ok(Reply::Stream { running, format, lesson: Box::new(lesson) });
    }
    let (completion, finish) = json::answer(trail, &ask, &mut attempts, lesson).await?;
    Ok(Reply::Json { completion: Box::new(completion), finish })
}

async fn parse(trail: &Trail, headers: &HeaderMap, body: Map<String, Value>) -> Result<Ask, ApiError> {
    let length =
        headers.get(http::header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
    if length.is_some_and(|length: usize| length <= LARGE) {
        return Ask::read(body, &trail.state.pool);
    }
    let state: SharedState = trail.state.clone();
    spawn_blocking(move || Ask::read(body, &state.pool)).await.map_err(|_| ApiError::internal())?
}

fn repeat(trail: &mut Trail, ask: &Ask, stored: &StoredAnswer) -> Reply {
    trail.reused(&stored.tier, &stored.model, 1.0, stored.completion_tokens);
    Reply::Stored {
        usage: stored_usage(stored),
        text: stored.text.clone(),
        model: stored.model.clone(),
        stream: ask.stream,
        include_usage: ask.include_usage,
    }
}

/// The policy `reuse`: the nearest answer as it is. A hit whose similarity is under 1 is one of these.
fn reuse(trail: &mut Trail, ask: &Ask, nearest: &Chosen) -> Reply {
    let source = nearest.example.source.as_str();
    let model =
        trail.state.pool.get(source).map_or(source, |(_, tier)| tier.info().model.as_str()).to_owned();
    trail.reused(source, &model, nearest.similarity, 0);
    Reply::Stored {
        text: nearest.example.answer.clone(),
        usage: Usage::default(),
        model,
        stream: ask.stream,
        include_usage: ask.include_usage,
    }
}

impl Reply {
    pub fn into_response(self, mut trail: Trail) -> Response {
        let facts = trail.commit();
        let mut response = match self {
            Self::Json { completion, finish } => {
                let usage = completion.usage.unwrap_or_default();
                trail.finish(usage, super::answer::reason_text(finish.reason), Some(&finish));
                Json(completion).into_response()
            }
            Self::Stream { running, format, lesson } => {
                events(Writing::new(*running, format, trail, *lesson).into_body())
            }
            Self::Stored { text, usage, model, stream, include_usage } => {
                let head = Head::new(trail.created_second(), model);
                trail.finish(usage, "stop", None);
                stored(head, text, usage, stream.then_some(include_usage))
            }
        };
        response.extensions_mut().insert(facts);
        response
    }
}

/// `stream`: whether with usage, if it is to be a stream.
fn stored(head: Head, text: String, usage: Usage, stream: Option<bool>) -> Response {
    let Some(include_usage) = stream else {
        let Head { id, created, model } = head;
        let choices = vec![Choice::text(0, text, "stop")];
        return Json(ChatCompletion::new(id, created, model, choices, usage)).into_response();
    };
    let mut writer = Writer::new(head, include_usage, 1);
    writer.piece(0, text, None);
    writer.end(0, "stop");
    writer.done(usage);
    events(writer.into_body())
}

fn events(body: Body) -> Response {
    ([(CONTENT_TYPE, "text/event-stream; charset=utf-8")], body).into_response()
}
