//! One request and its answer over HTTP: the waits, the timeouts, the cancellation.

use std::{
    collections::BTreeMap,
    future::poll_fn,
    pin::pin,
    sync::Arc,
    task::Poll,
    time::{Duration, Instant},
};

use reprise_tier::{
    Event, EventSender, Finish, GenerateRequest, TierError, Timings, TokenLogprob, ToolCallPiece, ToolCalls,
    join,
};
use reqwest::header::CONTENT_TYPE;
use tokio::time::{timeout, timeout_at};

use super::{
    Upstream,
    answer::{Answer, Piece},
    body, estimate_tokens, failure,
    gauge::Ticket,
    wire::{self, Reply},
};

/// An error's body is read up to here.
const ERROR_BYTES: usize = 64 << 10;

/// Runs a request to its end, its error, its deadline, or until nobody waits for it any more.
pub async fn run(
    upstream: Arc<Upstream>,
    request: GenerateRequest,
    ticket: Ticket,
    sender: EventSender,
    capacity: usize,
) {
    let deadline = request.deadline.map(tokio::time::Instant::from_std);
    let outcome = {
        let mut outbox = Outbox { sender: &sender, left: capacity, held: None };
        let exchange = exchange(&upstream, &request, ticket, &mut outbox);
        let bounded = async {
            match deadline {
                Some(deadline) => {
                    timeout_at(deadline, exchange).await.unwrap_or(Err(TierError::DeadlineExceeded))
                }
                None => exchange.await,
            }
        };
        tokio::select! {
            biased;
            // Dropping the exchange closes the connection, and the upstream stops.
            () = sender.cancelled() => return,
            outcome = bounded => outcome,
        }
    };
    let last = outcome.map(Event::Finished);
    if let Err(error) = &last {
        tracing::debug!(request = %request.id, %error, "a remote tier failed");
    }
    sender.send(last);
}

/// Asks for the list of models; its content does not matter.
pub async fn probe(upstream: &Upstream) -> Result<(), TierError> {
    let limit = upstream.timeouts.connect.saturating_mul(2);
    let outcome = match timeout(limit, upstream.client.get(upstream.models.clone()).send()).await {
        Ok(answer) => answer.map(drop).map_err(failure::of_transport),
        Err(_) => Err(failure::broken(&silence(limit))),
    };
    note(upstream, &outcome);
    outcome
}

async fn exchange(
    upstream: &Upstream,
    request: &GenerateRequest,
    ticket: Ticket,
    outbox: &mut Outbox<'_>,
) -> Result<Finish, TierError> {
    let entered = Instant::now();
    let slot = ticket.slot().await?;
    let body = body::body(request, &upstream.model);
    let prompt_bytes = request.messages.iter().map(|message| message.content.len()).sum();
    let first_by = tokio::time::Instant::now() + upstream.timeouts.first_byte;
    let mut response = open(upstream, &body, request.traceparent.as_deref(), first_by).await?;
    let mut answer = Answer::default();
    let mut first_text = None;
    let (mut wait_until, mut waited) = (first_by, upstream.timeouts.first_byte);
    while !answer.is_done() {
        let piece =
            by(wait_until, response.chunk()).await.ok_or_else(|| failure::broken(&silence(waited)))??;
        let Some(piece) = piece else { break };
        waited = upstream.timeouts.idle;
        wait_until = tokio::time::Instant::now() + upstream.timeouts.idle;
        let begun = answer.has_begun();
        let pieces = answer.push(&piece)?;
        if !begun && answer.has_begun() {
            outbox.event(Event::Started { prompt_tokens: estimate_tokens(prompt_bytes) });
        }
        for piece in pieces {
            first_text.get_or_insert_with(Instant::now);
            outbox.piece(piece);
        }
    }
    let ending = answer.end(prompt_bytes)?;
    outbox.flush();
    wire::done(upstream, response);
    let (now, began) = (Instant::now(), slot.since);
    let first_text = first_text.unwrap_or(now);
    upstream.gauge.note_service((now - began).as_secs_f64());
    let timings = Timings {
        queued: began - entered,
        prefill: first_text - began,
        decode: now.duration_since(first_text),
    };
    Ok(Finish { reason: ending.reason, usage: ending.usage, timings })
}

/// Sends the request; an error status becomes an error here.
async fn open(
    upstream: &Upstream,
    body: &serde_json::Map<String, serde_json::Value>,
    traceparent: Option<&str>,
    first_by: tokio::time::Instant,
) -> Result<Reply, TierError> {
    let sent = match timeout_at(first_by, wire::post(upstream, body, traceparent)).await {
        Ok(sent) => sent,
        Err(_) => Err(failure::broken(&silence(upstream.timeouts.first_byte))),
    };
    note(upstream, &sent);
    let response = sent?;
    let status = response.status();
    let streams = response
        .headers()
        .get(CONTENT_TYPE)
        .is_none_or(|kind| kind.as_bytes().to_ascii_lowercase().starts_with(b"text/event-stream"));
    let success = (200..300).contains(&status);
    if success && streams {
        return Ok(response);
    }
    let headers = response.headers().clone();
    let text = timeout_at(first_by, start_of(response)).await.unwrap_or_default();
    if success {
        return Err(failure::garbage(&format!("not an event stream: {}", excerpt(&text))));
    }
    let error = failure::of_status(status, &headers, &text);
    if let TierError::Upstream { status: Some(429 | 503), retry_after: Some(time), .. } = &error {
        upstream.health.hold_off(*time);
    }
    Err(error)
}

/// What comes before the deadline; no timer is set for what is there.
async fn by<T>(deadline: tokio::time::Instant, coming: impl Future<Output = T>) -> Option<T> {
    let mut coming = pin!(coming);
    match poll_fn(|context| Poll::Ready(coming.as_mut().poll(context))).await {
        Poll::Ready(come) => Some(come),
        Poll::Pending => timeout_at(deadline, coming).await.ok(),
    }
}

async fn start_of(mut response: Reply) -> Vec<u8> {
    let mut body = Vec::new();
    while let Ok(Some(piece)) = response.chunk().await {
        body.extend_from_slice(&piece[..piece.len().min(ERROR_BYTES - body.len())]);
        if body.len() >= ERROR_BYTES {
            break;
        }
    }
    body
}

fn note<T>(upstream: &Upstream, outcome: &Result<T, TierError>) {
    match outcome {
        Ok(_) => upstream.health.reached(),
        Err(error) => upstream.health.unreachable(&error.to_string()),
    }
}

fn silence(waited: Duration) -> String {
    format!("the upstream sent nothing for {} s", waited.as_secs_f64())
}

fn excerpt(body: &[u8]) -> String {
    failure::excerpt(&String::from_utf8_lossy(body))
}

/// Keeps within the channel's capacity: an upstream that cuts its answer finer than tokens gets its last pieces joined.
struct Outbox<'a> {
    sender: &'a EventSender,
    left: usize,
    held: Option<Held>,
}

/// Pieces for which there was no room, joined.
#[derive(Default)]
struct Held {
    text: String,
    logprobs: Vec<TokenLogprob>,
    calls: BTreeMap<usize, ToolCallPiece>,
}

/// Room for the joined rests of the text and of all tool calls, and for the end.
pub const RESERVED: usize = 2 + ToolCalls::MOST;

impl Outbox<'_> {
    fn event(&mut self, event: Event) {
        self.left = self.left.saturating_sub(1);
        self.sender.send(Ok(event));
    }

    fn piece(&mut self, piece: Piece) {
        if self.held.is_none() && self.left > RESERVED {
            return match piece {
                Piece::Text { text, logprobs } => self.event(Event::Delta { text, logprobs }),
                Piece::ToolCall { index, piece } => self.event(Event::ToolCall { index, piece }),
            };
        }
        let held = self.held.get_or_insert_default();
        match piece {
            Piece::Text { text, logprobs } => {
                held.text.push_str(&text);
                held.logprobs.extend(logprobs);
            }
            Piece::ToolCall { index, piece } => join(held.calls.entry(index).or_default(), piece),
        }
    }

    fn flush(&mut self) {
        let Some(Held { text, logprobs, calls }) = self.held.take() else { return };
        if !text.is_empty() || !logprobs.is_empty() {
            self.event(Event::Delta { text, logprobs });
        }
        for (index, piece) in calls {
            self.event(Event::ToolCall { index, piece });
        }
    }
}
