//! The answer as server-sent events.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::panic::AssertUnwindSafe;

use axum::body::Body;
use bytes::Bytes;
use futures::StreamExt;
use futures::stream::unfold;
use reprise_openai::chat::{ChatCompletionChunk, Delta};
use reprise_openai::{Usage, sse};
use reprise_tier::{Finish, TierError};
use serde_json::Value;

use super::afterwards::{Lesson, Whole};
use super::answer::{Head, reason_text, usage_of};
use super::generate::{Running, Step};
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

/// A stream that a tier is writing. Dropping it cancels the generation and files the trail.
#[derive(Debug)]
pub struct Writing {
    pub running: Running,
    pub writer: Writer,
    /// Gone once the answer has ended.
    pub trail: Option<Trail>,
    pub lesson: Option<Lesson>,
    text: String,
    with_examples: bool,
    _open: OpenStream,
}

/// Counts a stream while it is open.
#[derive(Debug)]
struct OpenStream(SharedState);

impl Writer {
    pub fn new(head: Head, include_usage: bool) -> Self {
        let mut writer = Self { head, include_usage, events: VecDeque::new() };
        writer.piece(Delta::role(), None);
        writer
    }

    pub fn text(&mut self, text: String) {
        self.piece(Delta::text(text), None);
    }

    pub fn end(&mut self, reason: &'static str, usage: Usage, tool_calls: Option<&Value>) {
        if let Some(calls) = tool_calls {
            let delta = Delta { tool_calls: Some(numbered(calls)), ..Delta::default() };
            self.piece(delta, None);
        }
        self.piece(Delta::default(), Some(reason));
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

    fn piece(&mut self, delta: Delta, reason: Option<&str>) {
        let Head { id, created, model } = &self.head;
        let chunk = ChatCompletionChunk::piece(id, *created, model, delta, reason);
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
    pub fn new(running: Running, include_usage: bool, trail: Trail, lesson: Lesson) -> Self {
        let head = Head::new(trail.created_second(), running.tier.info().model.as_str());
        Self {
            running,
            writer: Writer::new(head, include_usage),
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
                Ok(Step::Text(text)) => {
                    self.text.push_str(&text);
                    self.writer.text(text);
                }
                Ok(Step::End(finish)) => self.finish(finish).await,
                Err(error) => self.break_off(&error),
            }
        }
    }

    async fn finish(&mut self, finish: Finish) {
        let info = self.running.tier.info();
        let whole = Whole {
            text: std::mem::take(&mut self.text),
            finish_reason: reason_text(finish.reason),
            usage: usage_of(&finish),
            tier: info.name.clone(),
            model: info.model.clone(),
            with_examples: self.with_examples,
        };
        if let Some(lesson) = &mut self.lesson {
            lesson.store(&whole).await;
        }
        self.writer.end(whole.finish_reason, whole.usage, finish.tool_calls.as_ref());
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

/// In chunks each tool call has its index.
fn numbered(calls: &Value) -> Value {
    let Value::Array(calls) = calls else { return calls.clone() };
    let numbered = calls.iter().enumerate().map(|(index, call)| {
        let mut call = call.clone();
        if let Value::Object(call) = &mut call {
            call.entry("index").or_insert_with(|| index.into());
        }
        call
    });
    numbered.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(include_usage: bool, write: impl FnOnce(&mut Writer)) -> Vec<String> {
        let head = Head { id: "c".into(), created: 7, model: "m".into() };
        let mut writer = Writer::new(head, include_usage);
        write(&mut writer);
        let bytes: Vec<u8> = writer.events.into_iter().flatten().collect();
        let events = sse::EventReader::default().push(&bytes).unwrap();
        events.into_iter().map(|event| event.data).collect()
    }

    #[test]
    fn a_stream_begins_with_the_role_and_ends_with_done() {
        let events = written(true, |writer| {
            writer.text("hi".into());
            writer.end("stop", Usage::new(3, 1), None);
        });
        assert_eq!(events.len(), 5);
        assert!(events[0].contains(r#""role":"assistant""#));
        assert!(events[2].contains(r#""finish_reason":"stop""#) && events[2].contains(r#""usage":null"#));
        assert!(events[3].contains(r#""total_tokens":4"#) && events[3].contains(r#""choices":[]"#));
        assert_eq!(events[4], "[DONE]");
    }

    #[test]
    fn a_broken_stream_ends_with_the_error() {
        let events = written(false, |writer| writer.error(ApiError::internal()));
        assert!(events.last().unwrap().starts_with(r#"{"error":"#), "{events:?}");
        assert!(!events.iter().any(|event| event == "[DONE]"));
    }

    #[test]
    fn tool_calls_are_numbered() {
        let calls = serde_json::json!([{"id": "a"}, {"id": "b", "index": 1}]);
        let events = written(false, |writer| writer.end("tool_calls", Usage::default(), Some(&calls)));
        assert!(
            events[1].contains(r#""tool_calls":[{"id":"a","index":0},{"id":"b","index":1}]"#),
            "{events:?}"
        );
    }
}
