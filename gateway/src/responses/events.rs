//! A response as it comes, event by event.

use std::collections::VecDeque;

use bytes::Bytes;
use reprise_openai::Usage;
use reprise_tier::{TokenLogprob, ToolCallPiece};
use serde_json::{Value, json};

use super::item;
use super::names::renamed;
use super::tell::{ResponseDialect, status};
use crate::chat::{Events, Head, told};
use crate::error::ApiError;

#[derive(Debug)]
pub struct ResponseEvents {
    dialect: ResponseDialect,
    head: Head,
    /// Of the next event.
    number: u64,
    /// Items that are whole.
    output: Vec<Value>,
    open: Option<Open>,
    /// Text that is white space so far: before a call it is no item.
    blank: String,
    /// Calls that have begun.
    calls: usize,
    reason: &'static str,
    events: VecDeque<Bytes>,
}

/// The item that is being written.
#[derive(Debug)]
enum Open {
    Message { id: String, text: String, logprobs: Vec<Value> },
    Call { id: String, call_id: String, name: String, arguments: String },
}

impl ResponseEvents {
    pub fn new(dialect: ResponseDialect, head: Head) -> Self {
        let mut events = Self {
            dialect,
            head,
            number: 0,
            output: Vec::new(),
            open: None,
            blank: String::new(),
            calls: 0,
            reason: "stop",
            events: VecDeque::new(),
        };
        for kind in ["response.created", "response.in_progress"] {
            let response = events.dialect.response(&events.head, "in_progress", &[], None);
            events.push(kind, json!({ "response": response }));
        }
        events
    }

    fn push(&mut self, kind: &str, mut event: Value) {
        event["type"] = json!(kind);
        event["sequence_number"] = json!(self.number);
        self.number += 1;
        self.events.push_back(Bytes::from(format!("event: {kind}\ndata: {event}\n\n")));
    }

    fn begin(&mut self, open: Open) {
        let index = self.output.len();
        let added = match &open {
            Open::Message { id, .. } => item::message(id, "in_progress", None),
            Open::Call { id, call_id, name, .. } => item::function_call(id, "in_progress", call_id, name, ""),
        };
        self.push("response.output_item.added", json!({"output_index": index, "item": added}));
        if let Open::Message { id, .. } = &open {
            let part = item::text_part("", &json!([]));
            self.push(
                "response.content_part.added",
                json!({"item_id": id, "output_index": index, "content_index": 0, "part": part}),
            );
        }
        self.open = Some(open);
    }

    fn close(&mut self, status: &str) {
        let index = self.output.len();
        let whole = match self.open.take() {
            None => return,
            Some(Open::Message { id, text, logprobs }) => {
                let at = |value: Value| {
                    let mut event = json!({"item_id": id, "output_index": index, "content_index": 0});
                    if let (Value::Object(event), Value::Object(more)) = (&mut event, value) {
                        event.extend(more);
                    }
                    event
                };
                let part = item::text_part(&text, &json!(logprobs));
                let (done, part_done) =
                    (at(json!({"text": text, "logprobs": logprobs})), at(json!({"part": part.clone()})));
                self.push("response.output_text.done", done);
                self.push("response.content_part.done", part_done);
                item::message(&id, status, Some(part))
            }
            Some(Open::Call { id, call_id, name, arguments }) => {
                self.push(
                    "response.function_call_arguments.done",
                    json!({"item_id": id, "output_index": index, "name": name, "arguments": arguments}),
                );
                item::function_call(&id, status, &call_id, &name, &arguments)
            }
        };
        self.push("response.output_item.done", json!({"output_index": index, "item": whole}));
        self.output.push(whole);
    }
}

impl Events for ResponseEvents {
    fn piece(&mut self, _: u32, piece: String, logprobs: Vec<TokenLogprob>) {
        let tokens = if self.dialect.logprobs {
            told(logprobs).iter().map(|token| json!(token)).collect()
        } else {
            Vec::new()
        };
        let mut piece = piece;
        if !matches!(self.open, Some(Open::Message { .. })) {
            piece.insert_str(0, &std::mem::take(&mut self.blank));
            if piece.trim().is_empty() {
                self.blank = piece;
                return;
            }
            self.close("completed");
            self.begin(Open::Message { id: item::id("msg_"), text: String::new(), logprobs: Vec::new() });
        }
        let index = self.output.len();
        if let Some(Open::Message { id, text, logprobs }) = &mut self.open {
            text.push_str(&piece);
            logprobs.extend(tokens.clone());
            let delta = json!({"item_id": id, "output_index": index, "content_index": 0, "delta": piece, "logprobs": tokens});
            self.push("response.output_text.delta", delta);
        }
    }

    fn tool_call(&mut self, _: u32, index: usize, piece: ToolCallPiece) {
        let text = |value: Option<&Value>| value.and_then(Value::as_str).unwrap_or_default().to_owned();
        let function = piece.get("function");
        if index == self.calls {
            self.calls += 1;
            self.close("completed");
            self.begin(Open::Call {
                id: item::id("fc_"),
                call_id: text(piece.get("id")),
                name: text(function.and_then(|function| function.get("name"))),
                arguments: String::new(),
            });
        }
        let delta = text(function.and_then(|function| function.get("arguments")));
        let index = self.output.len();
        if let Some(Open::Call { id, arguments, .. }) = self.open.as_mut().filter(|_| !delta.is_empty()) {
            arguments.push_str(&delta);
            let delta = json!({"item_id": id, "output_index": index, "delta": delta});
            self.push("response.function_call_arguments.delta", delta);
        }
    }

    fn end(&mut self, _: u32, reason: &'static str) {
        self.reason = reason;
    }

    fn done(&mut self, usage: Usage) {
        let status = status(self.reason);
        if self.open.is_none() && self.output.is_empty() {
            // An answer without a word is one.
            let text = std::mem::take(&mut self.blank);
            self.begin(Open::Message { id: item::id("msg_"), text, logprobs: Vec::new() });
        }
        self.close(status);
        let response = self.dialect.response(&self.head, status, &self.output, Some(usage));
        self.dialect.save(&self.head, &response);
        self.push(&format!("response.{status}"), json!({ "response": response }));
    }

    fn error(&mut self, error: ApiError) {
        let body = renamed(error).body;
        let mut response = self.dialect.response(&self.head, "failed", &self.output, None);
        let code = if body.kind == reprise_openai::kind::RATE_LIMIT {
            "rate_limit_exceeded"
        } else {
            "server_error"
        };
        response["error"] = json!({"code": code, "message": body.message});
        self.push("response.failed", json!({ "response": response }));
    }

    fn take(&mut self) -> Option<Bytes> {
        self.events.pop_front()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use reprise_openai::sse::EventReader;
    use reprise_tier::{call_begins, call_goes_on};
    use serde_json::Map;

    use super::*;

    fn written(write: impl FnOnce(&mut ResponseEvents)) -> Vec<Value> {
        let dialect = ResponseDialect { settings: Arc::new(Map::new()), logprobs: false, saving: None };
        let head = Head { id: "resp_1".into(), created: 7, model: "m".into() };
        let mut events = ResponseEvents::new(dialect, head);
        write(&mut events);
        let bytes: Vec<u8> = std::iter::from_fn(|| events.take()).flatten().collect();
        let read = EventReader::default().push(&bytes).unwrap();
        let told: Vec<Value> = read
            .iter()
            .map(|event| {
                let value: Value = serde_json::from_str(&event.data).unwrap();
                assert_eq!(value["type"], event.name.as_str());
                value
            })
            .collect();
        assert!(told.iter().enumerate().all(|(index, event)| event["sequence_number"] == index));
        told
    }

    fn kinds(events: &[Value]) -> Vec<&str> {
        events.iter().map(|event| event["type"].as_str().unwrap().trim_start_matches("response.")).collect()
    }

    #[test]
    fn text_comes_as_one_message() {
        let events = written(|events| {
            events.piece(0, "Hi".into(), Vec::new());
            events.piece(0, " you".into(), Vec::new());
            events.end(0, "stop");
            events.done(Usage::new(3, 2));
        });
        assert_eq!(
            kinds(&events),
            [
                "created",
                "in_progress",
                "output_item.added",
                "content_part.added",
                "output_text.delta",
                "output_text.delta",
                "output_text.done",
                "content_part.done",
                "output_item.done",
                "completed",
            ]
        );
        let response = &events[9]["response"];
        assert_eq!(response["output"][0]["content"][0]["text"], "Hi you");
        assert_eq!(
            (&response["status"], &response["usage"]["total_tokens"]),
            (&json!("completed"), &json!(5))
        );
    }

    #[test]
    fn calls_are_items_and_blanks_before_them_are_none() {
        let events = written(|events| {
            events.piece(0, "\n".into(), Vec::new());
            events.tool_call(0, 0, call_begins("c1", "f"));
            events.tool_call(0, 0, call_goes_on("{\"a\""));
            events.tool_call(0, 0, call_goes_on(":1}"));
            events.tool_call(0, 1, call_begins("c2", "g"));
            events.tool_call(0, 1, call_goes_on("{}"));
            events.end(0, "tool_calls");
            events.done(Usage::new(3, 2));
        });
        let output = events.last().unwrap()["response"]["output"].as_array().unwrap();
        assert_eq!(output.len(), 2);
        assert_eq!((&output[0]["call_id"], &output[0]["arguments"]), (&json!("c1"), &json!("{\"a\":1}")));
        assert_eq!((&output[1]["name"], &output[1]["status"]), (&json!("g"), &json!("completed")));
        let done: Vec<&Value> =
            events.iter().filter(|event| event["type"] == "response.output_item.done").collect();
        assert_eq!((&done[0]["output_index"], &done[1]["output_index"]), (&json!(0), &json!(1)));
    }

    #[test]
    fn an_end_before_its_time_is_told() {
        let events = written(|events| {
            events.piece(0, "Hi".into(), Vec::new());
            events.end(0, "length");
            events.done(Usage::new(3, 1));
        });
        let response = &events.last().unwrap()["response"];
        assert_eq!(events.last().unwrap()["type"], "response.incomplete");
        assert_eq!(response["incomplete_details"]["reason"], "max_output_tokens");
        let events = written(|events| events.error(ApiError::internal()));
        assert_eq!(events.last().unwrap()["response"]["error"]["code"], "server_error");
        let empty = written(|events| events.done(Usage::new(3, 0)));
        assert_eq!(empty.last().unwrap()["response"]["output"][0]["content"][0]["text"], "");
    }
}
