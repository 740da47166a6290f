//! The answer as server-sent events.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::panic::AssertUnwindSafe;

use axum::body::Body;
use bytes::Bytes;
use futures::StreamExt;
use futures::stream::unfold;
use reprise_openai::chat::{ChatCompletionChunk, ChunkChoice, Delta, Logprobs};
use reprise_openai::{Usage, sse};
use reprise_tier::{Finish, TierError, ToolCallPiece};
use serde_json::Value;

use super::afterwards::{Lesson, Whole};
use super::answer::{Head, joined, logprobs_of, reason_text, told, usage_of};
use super::generate::{Running, Step, What};
use super::trail::Trail;
use crate::error::{ApiError, tier_error_label};
use crate::state::SharedState;

/// How the events of one answer are written.
#[derive(Debug)]
pub struct Writer {
    head: Head,
    include_usage: bool,
    /// Events that were made and not yet taken.
    events: VecDeque<Bytes>,
}

/// What the client wants to see in a stream.
#[derive(Debug, Clone, Copy)]
pub struct Format {
    pub include_usage: bool,
    pub logprobs: bool,
}

/// A stream that a tier is writing. Dropping it cancels the generation and files the trail.
#[derive(Debug)]
pub struct Writing {
    pub running: Running,
    pub writer: Writer,
    /// Gone once the answer has ended.
    pub trail: Option<Trail>,
    pub lesson: Option<Lesson>,
    /// Log probabilities were asked for.
    logprobs: bool,
    /// Of the first choice.
    text: String,
    /// Of each choice that has ended.
    finishes: Vec<Option<Finish>>,
    with_examples: bool,
    _open: OpenStream,
}

/// Counts a stream while it is open.
#[derive(Debug)]
struct OpenStream(SharedState);

impl Writer {
    pub fn new(head: Head, include_usage: bool, choices: u32) -> Self {
        let mut writer = Self { head, include_usage, events: VecDeque::new() };
        (0..choices).for_each(|index| writer.choice(ChunkChoice::new(index, Delta::role())));
        writer
    }

    /// A piece of a choice, with its log probabilities where these are told.
    pub fn piece(&mut self, index: u32, text: String, logprobs: Option<Logprobs>) {
        self.choice(ChunkChoice::new(index, Delta::text(text)).with_logprobs(logprobs));
    }

    /// More of a choice's tool call with the index `call`.
    pub fn tool_call(&mut self, index: u32, call: usize, mut piece: ToolCallPiece) {
        piece.insert("index".to_owned(), call.into());
        let calls = Value::Array(vec![Value::Object(piece)]);
        self.choice(ChunkChoice::new(index, Delta { tool_calls: Some(calls), ..Delta::default() }));
    }

    /// The end of a choice.
    pub fn end(&mut self, index: u32, reason: &'static str) {
        self.choice(ChunkChoice::end(index, reason));
    }

    /// All choices have ended.
    pub fn done(&mut self, usage: Usage) {
        if self.include_usage {
            let Head { id, created, model } = &self.head;
            self.push(sse::json(&ChatCompletionChunk::usage(id, *created, model, usage)));
        }
        self.events.push_back(sse::DONE);
    }

    /// The stream ends here and is not whole: no finish reason, no `[DONE]`.
    pub fn error(&mut self, error: ApiError) {
        self.push(sse::json(&error.body.into_response()));
    }

    fn choice(&mut self, choice: ChunkChoice) {
        let Head { id, created, model } = &self.head;
        let chunk = ChatCompletionChunk::piece(id, *created, model, choice);
        let chunk = if self.include_usage { chunk.with_usage_to_come() } else { chunk };
        self.push(sse::json(&chunk));
    }

    fn push(&mut self, event: Result<Bytes, serde_json::Error>) {
        match event {
            Ok(event) => self.events.push_back(event),
            Err(error) => tracing::error!(%error, "a chunk cannot be written"),
        }
    }

    /// All events at once: the answer is known.
    pub fn into_body(self) -> Body {
        Body::from_stream(futures::stream::iter(self.events.into_iter().map(Ok::<_, Infallible>)))
    }
}

impl Writing {
    pub fn new(running: Running, format: Format, trail: Trail, lesson: Lesson) -> Self {
        let head = Head::new(trail.created_second(), running.tier.info().model.as_str());
        let choices = running.choices();
        Self {
            running,
            writer: Writer::new(head, format.include_usage, u32::try_from(choices).unwrap_or(u32::MAX)),
            logprobs: format.logprobs,
            finishes: vec![None; choices],
            with_examples: trail.facts().examples > 0,
            _open: OpenStream::new(&trail.state),
            trail: Some(trail),
            lesson: Some(lesson),
            text: String::new(),
        }
    }

    pub fn into_body(self) -> Body {
        let state = self._open.0.clone();
        let events = unfold(self, |mut writing| async move {
            let event = writing.next().await?;
            Some((event, writing))
        });
        let caught = AssertUnwindSafe(events).catch_unwind().map(move |event| {
            Ok::<_, Infallible>(event.unwrap_or_else(|_| {
                state.metrics.panics.inc();
                tracing::error!("a stream ended in a panic");
                sse::json(&ApiError::internal().body.into_response()).unwrap_or_default()
            }))
        });
        Body::from_stream(caught)
    }

    async fn next(&mut self) -> Option<Bytes> {
        loop {
            if let Some(event) = self.writer.events.pop_front() {
                return Some(event);
            }
            self.trail.as_ref()?;
            match self.running.step().await {
                Ok(Step { choice, what: What::Piece { text, logprobs } }) => {
                    if choice == 0 {
                        self.text.push_str(&text);
                    }
                    let logprobs = logprobs_of(self.logprobs, &text, told(logprobs));
                    self.writer.piece(number(choice), text, logprobs);
                }
                Ok(Step { choice, what: What::ToolCall { index, piece } }) => {
                    self.writer.tool_call(number(choice), index, piece);
                }
                Ok(Step { choice, what: What::End(finish) }) => self.end(choice, finish).await,
                Err(error) => self.break_off(&error),
            }
        }
    }

    /// The end of a choice; of the last, that of the answer.
    async fn end(&mut self, choice: usize, finish: Finish) {
        let ending = reason_text(finish.reason);
        if let Some(place) = self.finishes.get_mut(choice) {
            *place = Some(finish);
        }
        let finishes: Option<Vec<Finish>> = self.finishes.iter().cloned().collect();
        match finishes.and_then(|finishes| joined(&finishes)) {
            Some(whole) => self.finish(whole, choice, ending).await,
            None => self.writer.end(number(choice), ending),
        }
    }

    /// `last` is the choice that ended last, and how.
    async fn finish(&mut self, finish: Finish, last: usize, ending: &'static str) {
        let info = self.running.tier.info();
        let whole = Whole {
            text: std::mem::take(&mut self.text),
            finish_reason: reason_text(finish.reason),
            usage: usage_of(&finish),
            tier: info.name.clone(),
            model: info.model.clone(),
            with_examples: self.with_examples,
        };
        // Before the end is told: the same request right after it is to find it.
        if let Some(lesson) = &mut self.lesson {
            lesson.store(&whole).await;
        }
        self.writer.end(number(last), ending);
        self.writer.done(whole.usage);
        if let Some(trail) = self.trail.take() {
            trail.finish(whole.usage, whole.finish_reason, Some(&finish));
        }
        if let Some(lesson) = self.lesson.take() {
            lesson.learn(whole);
        }
    }

    fn break_off(&mut self, error: &TierError) {
        let api = ApiError::from(error);
        if let Some(trail) = self.trail.take() {
            let name = &self.running.tier.info().name;
            trail.state.metrics.tier_errors.with_label_values(&[name, tier_error_label(error)]).inc();
            tracing::warn!(request = %trail.id(), tier = name, %error, "a stream broke off");
            trail.fail(api.status, api.body.message.clone());
        }
        self.writer.error(api);
    }
}

impl OpenStream {
    fn new(state: &SharedState) -> Self {
        state.metrics.open_streams.inc();
        Self(state.clone())
    }
}

impl Drop for OpenStream {
    fn drop(&mut self) {
        self.0.metrics.open_streams.dec();
    }
}

fn number(choice: usize) -> u32 {
    u32::try_from(choice).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use reprise_openai::chat::TokenLogprob;
    use reprise_tier::{call_begins, call_goes_on};

    use super::*;

    fn written(include_usage: bool, write: impl FnOnce(&mut Writer)) -> Vec<String> {
        let head = Head { id: "c".into(), created: 7, model: "m".into() };
        let mut writer = Writer::new(head, include_usage, 1);
        write(&mut writer);
        let bytes: Vec<u8> = writer.events.into_iter().flatten().collect();
        let events = sse::EventReader::default().push(&bytes).unwrap();
        events.into_iter().map(|event| event.data).collect()
    }

    #[test]
    fn a_stream_begins_with_the_role_and_ends_with_done() {
        let events = written(true, |writer| {
            writer.piece(0, "hi".into(), None);
            writer.end(0, "stop");
            writer.done(Usage::new(3, 1));
        });
        assert_eq!(events.len(), 5);
        assert!(events[0].contains(r#""role":"assistant""#));
        assert!(events[2].contains(r#""finish_reason":"stop""#) && events[2].contains(r#""usage":null"#));
        assert!(events[3].contains(r#""total_tokens":4"#) && events[3].contains(r#""choices":[]"#));
        assert_eq!(events[4], "[DONE]");
    }

    #[test]
    fn choices_have_their_index_and_logprobs_their_place() {
        let events = written(false, |writer| {
            let token =
                TokenLogprob { token: "a".into(), logprob: -0.5, bytes: None, top_logprobs: Vec::new() };
            writer.piece(1, "a".into(), Some(Logprobs::content(vec![token])));
            writer.end(1, "length");
        });
        assert!(
            events[1].contains(
                r#"{"index":1,"delta":{"content":"a"},"logprobs":{"content":[{"token":"a","logprob":-0.5,"bytes":null,"top_logprobs":[]}],"refusal":null},"finish_reason":null}"#
            ),
            "{events:?}"
        );
        assert!(events[2].contains(r#""index":1,"delta":{},"logprobs":null,"finish_reason":"length""#));
    }

    #[test]
    fn a_broken_stream_ends_with_the_error() {
        let events = written(false, |writer| writer.error(ApiError::internal()));
        assert!(events.last().unwrap().starts_with(r#"{"error":"#), "{events:?}");
        assert!(!events.iter().any(|event| event == "[DONE]"));
    }

    #[test]
    fn tool_calls_are_numbered() {
        let events = written(false, |writer| {
            writer.tool_call(0, 0, call_begins("a", "f"));
            writer.tool_call(0, 1, call_goes_on("{}"));
        });
        let first = r#""tool_calls":[{"id":"a","type":"function","function":{"name":"f","arguments":""},"index":0}]"#;
        assert!(events[1].contains(first), "{events:?}");
        assert!(events[2].contains(r#""tool_calls":[{"function":{"arguments":"{}"},"index":1}]"#), "{events:?}");
    }
}
