//! Answers told as chat completions.

use std::collections::VecDeque;

use bytes::Bytes;
use reprise_openai::chat::{
    AnswerMessage, ChatCompletion, ChatCompletionChunk, Choice, ChunkChoice, Delta, Logprobs,
};
use reprise_openai::{Usage, sse};
use reprise_tier::{TokenLogprob, ToolCallPiece};
use serde_json::Value;

use super::answer::{logprobs_of, told};
use super::dialect::{Dialect, Events, Head, Written};
use crate::error::ApiError;

/// What the client wants to see.
#[derive(Debug, Clone, Copy)]
pub struct ChatDialect {
    /// In the last chunk of a stream.
    pub include_usage: bool,
    pub logprobs: bool,
}

#[derive(Debug)]
struct Chunks {
    head: Head,
    format: ChatDialect,
    events: VecDeque<Bytes>,
}

impl Dialect for ChatDialect {
    fn prefix(&self) -> &'static str {
        "chatcmpl-"
    }

    fn whole(&self, head: Head, choices: Vec<Written>, usage: Usage) -> Result<Bytes, serde_json::Error> {
        let Head { id, created, model } = head;
        let choices = (0..).zip(choices).map(|(index, written)| choice(index, written, self.logprobs));
        let completion = ChatCompletion::new(id, created, model, choices.collect(), usage);
        serde_json::to_vec(&completion).map(Bytes::from)
    }

    fn events(&self, head: Head, choices: u32) -> Box<dyn Events> {
        let mut chunks = Chunks { head, format: *self, events: VecDeque::new() };
        (0..choices).for_each(|index| chunks.choice(ChunkChoice::new(index, Delta::role())));
        Box::new(chunks)
    }
}

fn choice(index: u32, written: Written, with_logprobs: bool) -> Choice {
    let Written { text, logprobs, calls, reason } = written;
    let logprobs = logprobs_of(with_logprobs, &text, told(logprobs));
    let tool_calls = calls.into_value();
    // A turn that only calls tools has no content.
    let content = Some(text).filter(|text| tool_calls.is_none() || !text.trim().is_empty());
    let message = AnswerMessage { role: "assistant".into(), content, refusal: None, tool_calls };
    Choice { index, message, logprobs, finish_reason: Some(reason.to_owned()) }
}

impl Events for Chunks {
    fn piece(&mut self, index: u32, text: String, logprobs: Vec<TokenLogprob>) {
        let logprobs: Option<Logprobs> = logprobs_of(self.format.logprobs, &text, told(logprobs));
        self.choice(ChunkChoice::new(index, Delta::text(text)).with_logprobs(logprobs));
    }

    fn tool_call(&mut self, index: u32, call: usize, mut piece: ToolCallPiece) {
        piece.insert("index".to_owned(), call.into());
        let calls = Value::Array(vec![Value::Object(piece)]);
        self.choice(ChunkChoice::new(index, Delta { tool_calls: Some(calls), ..Delta::default() }));
    }

    fn end(&mut self, index: u32, reason: &'static str) {
        self.choice(ChunkChoice::end(index, reason));
    }

    fn done(&mut self, usage: Usage) {
        if self.format.include_usage {
            let Head { id, created, model } = &self.head;
            push(&mut self.events, sse::json(&ChatCompletionChunk::usage(id, *created, model, usage)));
        }
        self.events.push_back(sse::DONE);
    }

    /// No finish reason, no `[DONE]`.
    fn error(&mut self, error: ApiError) {
        push(&mut self.events, sse::json(&error.body.into_response()));
    }

    fn take(&mut self) -> Option<Bytes> {
        self.events.pop_front()
    }
}

impl Chunks {
    fn choice(&mut self, choice: ChunkChoice) {
        let Head { id, created, model } = &self.head;
        let chunk = ChatCompletionChunk::piece(id, *created, model, choice);
        let chunk = if self.format.include_usage { chunk.with_usage_to_come() } else { chunk };
        push(&mut self.events, sse::json(&chunk));
    }
}

pub fn push(events: &mut VecDeque<Bytes>, event: Result<Bytes, serde_json::Error>) {
    match event {
        Ok(event) => events.push_back(event),
        Err(error) => tracing::error!(%error, "an event cannot be written"),
    }
}

#[cfg(test)]
mod tests {
    use reprise_tier::{LikelyToken, call_begins, call_goes_on};

    use super::*;

    fn written(format: ChatDialect, write: impl FnOnce(&mut dyn Events)) -> Vec<String> {
        let head = Head { id: "c".into(), created: 7, model: "m".into() };
        let mut events = format.events(head, 1);
        write(&mut *events);
        let bytes: Vec<u8> = std::iter::from_fn(|| events.take()).flatten().collect();
        let events = sse::EventReader::default().push(&bytes).unwrap();
        events.into_iter().map(|event| event.data).collect()
    }

    const PLAIN: ChatDialect = ChatDialect { include_usage: false, logprobs: false };

    #[test]
    fn a_stream_begins_with_the_role_and_ends_with_done() {
        let events = written(ChatDialect { include_usage: true, ..PLAIN }, |writer| {
            writer.piece(0, "hi".into(), Vec::new());
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
        let events = written(ChatDialect { logprobs: true, ..PLAIN }, |writer| {
            let chosen = LikelyToken { text: "a".into(), logprob: -0.5, bytes: None };
            writer.piece(1, "a".into(), vec![TokenLogprob { chosen, top: Vec::new() }]);
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
        let events = written(PLAIN, |writer| writer.error(ApiError::internal()));
        assert!(events.last().unwrap().starts_with(r#"{"error":"#), "{events:?}");
        assert!(!events.iter().any(|event| event == "[DONE]"));
    }

    #[test]
    fn tool_calls_are_numbered() {
        let events = written(PLAIN, |writer| {
            writer.tool_call(0, 0, call_begins("a", "f"));
            writer.tool_call(0, 1, call_goes_on("{}"));
        });
        let first =
            r#""tool_calls":[{"id":"a","type":"function","function":{"name":"f","arguments":""},"index":0}]"#;
        assert!(events[1].contains(first), "{events:?}");
        assert!(
            events[2].contains(r#""tool_calls":[{"function":{"arguments":"{}"},"index":1}]"#),
            "{events:?}"
        );
    }

    #[test]
    fn a_turn_that_only_calls_has_no_content() {
        let mut calls = reprise_tier::ToolCalls::default();
        calls.add(0, call_begins("a", "f")).unwrap();
        let of =
            |text: &str, calls| choice(0, Written { text: text.into(), calls, ..Written::default() }, false);
        assert_eq!(of("\n", calls.clone()).message.content, None);
        assert_eq!(of("I will.", calls).message.content.as_deref(), Some("I will."));
        assert_eq!(of("", reprise_tier::ToolCalls::default()).message.content.as_deref(), Some(""));
    }
}
