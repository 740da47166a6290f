//! The answer as server-sent events.

use std::convert::Infallible;
use std::panic::AssertUnwindSafe;

use axum::body::Body;
use bytes::Bytes;
use futures::StreamExt;
use futures::stream::unfold;
use reprise_openai::sse;
use reprise_tier::{Finish, TierError};

use super::afterwards::{Lesson, Whole};
use super::answer::{joined, reason_text, usage_of};
use super::dialect::{Dialect, Events};
use super::running::{Running, Step, What};
use super::trail::Trail;
use crate::error::{ApiError, tier_error_label};
use crate::state::SharedState;

/// A stream that a tier is writing. Dropping it cancels the generation and files the trail.
#[derive(Debug)]
pub struct Writing {
    pub running: Running,
    pub writer: Box<dyn Events>,
    /// Gone once the answer has ended.
    pub trail: Option<Trail>,
    pub lesson: Option<Lesson>,
    /// Choices of one prompt.
    each: u32,
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

impl Writing {
    pub fn new(running: Running, dialect: &dyn Dialect, each: u32, trail: Trail, lesson: Lesson) -> Self {
        let head = dialect.head(trail.created_second(), &running.tier.info().model);
        let choices = running.choices();
        Self {
            running,
            writer: dialect.events(head, number(choices)),
            each,
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
            if let Some(event) = self.writer.take() {
                return Some(event);
            }
            self.trail.as_ref()?;
            match self.running.step().await {
                Ok(Step { choice, what: What::Piece { text, logprobs } }) => {
                    if choice == 0 {
                        self.text.push_str(&text);
                    }
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
        match finishes.and_then(|finishes| joined(&finishes, self.each)) {
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
        if let Some(trail) = &mut self.trail {
            trail.charge.answered(&whole.tier, whole.usage);
            if let Err(error) = trail.charge.recorded().await {
                return self.refuse(error);
            }
        }
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

    /// The answer is whole, and may not be given away.
    fn refuse(&mut self, error: ApiError) {
        if let Some(trail) = self.trail.take() {
            trail.fail(error.status, error.body.message.clone());
        }
        self.writer.error(error);
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
