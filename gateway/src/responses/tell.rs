//! Answers told as responses.

use std::sync::Arc;

use bytes::Bytes;
use reprise_openai::Usage;
use serde_json::{Map, Value, json};
use tokio_util::task::TaskTracker;

use super::events::ResponseEvents;
use super::item;
use super::store::{Record, TenantResponses};
use crate::chat::{Dialect, Events, Head, Written, told};

#[derive(Debug, Clone)]
pub struct ResponseDialect {
    /// What a response tells of how it was asked for.
    pub settings: Arc<Map<String, Value>>,
    pub logprobs: bool,
    /// None: it is not stored.
    pub saving: Option<Saving>,
}

#[derive(Debug, Clone)]
pub struct Saving {
    pub stored: TenantResponses,
    pub tasks: TaskTracker,
    pub input: Arc<[Value]>,
}

impl ResponseDialect {
    /// The response as it is told in a body and in events. `usage`: none while it is under way.
    pub fn response(&self, head: &Head, status: &str, output: &[Value], usage: Option<Usage>) -> Value {
        let mut response = Map::new();
        let incomplete = (status == "incomplete").then(|| json!({"reason": "max_output_tokens"}));
        for (name, value) in [
            ("id", json!(head.id)),
            ("object", json!("response")),
            ("created_at", json!(head.created)),
            ("status", json!(status)),
            ("error", Value::Null),
            ("incomplete_details", incomplete.unwrap_or_default()),
            ("model", json!(head.model)),
            ("output", json!(output)),
            ("usage", usage.map_or(Value::Null, tokens)),
        ] {
            response.insert(name.to_owned(), value);
        }
        response.extend(self.settings.iter().map(|(name, value)| (name.clone(), value.clone())));
        Value::Object(response)
    }

    pub fn save(&self, head: &Head, response: &Value) {
        if let Some(Saving { stored, tasks, input }) = &self.saving {
            let record = Record { response: response.clone(), input: input.to_vec() };
            stored.put(&head.id, record, tasks);
        }
    }
}

/// How a response ends, by how its answer did.
#[must_use]
pub fn status(reason: &str) -> &'static str {
    match reason {
        "length" | "content_filter" => "incomplete",
        _ => "completed",
    }
}

fn tokens(usage: Usage) -> Value {
    let cached = usage.prompt_tokens_details.map_or(0, |details| details.cached_tokens);
    json!({
        "input_tokens": usage.prompt_tokens,
        "input_tokens_details": {"cached_tokens": cached, "cache_write_tokens": 0},
        "output_tokens": usage.completion_tokens,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": usage.total_tokens,
    })
}

impl Dialect for ResponseDialect {
    fn prefix(&self) -> &'static str {
        "resp_"
    }

    fn whole(&self, head: Head, choices: Vec<Written>, usage: Usage) -> Result<Bytes, serde_json::Error> {
        let Written { text, logprobs, calls, reason } = choices.into_iter().next().unwrap_or_default();
        let status = status(reason);
        let mut output = Vec::new();
        if calls.is_empty() || !text.trim().is_empty() {
            let logprobs = if self.logprobs { json!(told(logprobs)) } else { json!([]) };
            let part = item::text_part(&text, &logprobs);
            output.push(item::message(&item::id("msg_"), status, Some(part)));
        }
        for call in calls.into_pieces() {
            let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            let none = Value::Null;
            let function = call.get("function").unwrap_or(&none);
            let call_id = text(call.get("id").unwrap_or(&none));
            let (name, arguments) = (text(&function["name"]), text(&function["arguments"]));
            output.push(item::function_call(&item::id("fc_"), status, &call_id, &name, &arguments));
        }
        let response = self.response(&head, status, &output, Some(usage));
        self.save(&head, &response);
        serde_json::to_vec(&response).map(Bytes::from)
    }

    fn events(&self, head: Head, _: u32) -> Box<dyn Events> {
        Box::new(ResponseEvents::new(self.clone(), head))
    }
}
