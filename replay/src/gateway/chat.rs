//! One user message and its answer, timed where it arrives: at the client.

use std::time::Duration;

use futures::StreamExt;
use reqwest::header::HeaderMap;
use reqwest::{Method, RequestBuilder};
use secrecy::SecretString;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::sse::Events;
use super::{Gateway, GatewayError, header};

/// What is asked, and how.
#[derive(Debug, Clone)]
pub struct Chat<'a> {
    /// `auto`, a tier, or a model.
    pub model: &'a str,
    pub prompt: &'a str,
    pub temperature: f32,
    pub seed: Option<u64>,
    pub max_tokens: u32,
    pub cache: CacheUse,
    /// False sends `cache-control: no-cache`: the store may not answer for the model.
    pub exact_reuse: bool,
    pub priority: Priority,
    pub caller: Caller,
    pub timeout: Duration,
}

/// `x-reprise-cache`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CacheUse {
    On,
    ReadOnly,
    Off,
}

/// `x-reprise-priority`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Priority {
    Interactive,
    Batch,
}

/// Whose key asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Caller {
    /// The tenant of the API key.
    Tenant,
    Admin,
}

/// An answer with what the gateway said about it. Times count from the moment of sending.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Answer {
    pub text: String,
    pub finish_reason: Option<String>,
    /// The model that answered, by its own id.
    pub model: Option<String>,
    pub request_id: Option<String>,
    pub tier: Option<String>,
    pub cache: Option<String>,
    pub examples: Option<u32>,
    pub similarity: Option<f64>,
    pub overhead_ms: Option<f64>,
    pub prompt_tokens: Option<u32>,
    pub completion_tokens: Option<u32>,
    /// To the first delta with text in it.
    pub ttft: Option<Duration>,
    pub e2e: Duration,
    /// Mean time between deltas with text; a delta is a token, or a few where the gateway joins them.
    pub inter_token: Option<Duration>,
}

#[derive(Debug, Serialize)]
struct Body<'a> {
    model: &'a str,
    messages: [Message<'a>; 1],
    temperature: f32,
    #[serde(skip_serializing_if = "Option::is_none")]
    seed: Option<u64>,
    max_tokens: u32,
    stream: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    stream_options: Option<StreamOptions>,
}

#[derive(Debug, Serialize)]
struct Message<'a> {
    role: &'static str,
    content: &'a str,
}

#[derive(Debug, Serialize)]
struct StreamOptions {
    include_usage: bool,
}

/// The parts of a chunk that replay reads.
#[derive(Debug, Deserialize)]
struct Chunk {
    #[serde(default)]
    model: Option<String>,
    #[serde(default)]
    choices: Vec<Choice>,
    #[serde(default)]
    usage: Option<Usage>,
    #[serde(default)]
    error: Option<StreamError>,
}

#[derive(Debug, Deserialize)]
struct Choice {
    /// `delta` in a stream, `message` otherwise.
    #[serde(default, alias = "message")]
    delta: Delta,
    #[serde(default)]
    finish_reason: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
struct Delta {
    #[serde(default)]
    content: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Usage {
    prompt_tokens: u32,
    completion_tokens: u32,
}

#[derive(Debug, Deserialize)]
struct StreamError {
    message: String,
}

impl Gateway {
    /// Asks for a stream and reads it to its end.
    pub async fn chat_streamed(&self, chat: &Chat<'_>) -> Result<Answer, GatewayError> {
        let path = "/v1/chat/completions";
        let begin = Instant::now();
        let (url, response) = self.send(path, self.chat_request(path, chat, true)).await?;
        let mut answer = Answer::from_headers(response.headers());
        let mut events = Events::default();
        let mut body = response.bytes_stream();
        let (mut first, mut last, mut deltas, mut done) = (None, None, 0u32, false);
        while let Some(bytes) = body.next().await {
            let bytes = bytes.map_err(|source| GatewayError::Transport { url: url.clone(), source })?;
            let now = begin.elapsed();
            for data in events.push(&bytes) {
                if data == "[DONE]" {
                    done = true;
                    continue;
                }
                let chunk: Chunk = serde_json::from_str(&data)
                    .map_err(|source| GatewayError::Body { url: url.clone(), source })?;
                if let Some(error) = chunk.error {
                    return Err(GatewayError::Stream { url, message: error.message });
                }
                if answer.take(chunk) {
                    first.get_or_insert(now);
                    last = Some(now);
                    deltas += 1;
                }
            }
        }
        answer.e2e = begin.elapsed();
        if !done {
            return Err(GatewayError::Stream { url, message: "it ended without [DONE]".into() });
        }
        answer.ttft = first;
        if let (Some(first), Some(last), 2..) = (first, last, deltas) {
            answer.inter_token = Some((last - first) / (deltas - 1));
        }
        Ok(answer)
    }

    /// Asks for the whole answer at once.
    pub async fn chat(&self, chat: &Chat<'_>) -> Result<Answer, GatewayError> {
        let path = "/v1/chat/completions";
        let begin = Instant::now();
        let (url, response) = self.send(path, self.chat_request(path, chat, false)).await?;
        let mut answer = Answer::from_headers(response.headers());
        let bytes =
            response.bytes().await.map_err(|source| GatewayError::Transport { url: url.clone(), source })?;
        let chunk: Chunk =
            serde_json::from_slice(&bytes).map_err(|source| GatewayError::Body { url, source })?;
        answer.take(chunk);
        answer.e2e = begin.elapsed();
        Ok(answer)
    }

    fn chat_request(&self, path: &str, chat: &Chat<'_>, stream: bool) -> RequestBuilder {
        let body = Body {
            model: chat.model,
            messages: [Message { role: "user", content: chat.prompt }],
            temperature: chat.temperature,
            seed: chat.seed,
            max_tokens: chat.max_tokens,
            stream,
            stream_options: stream.then_some(StreamOptions { include_usage: true }),
        };
        let key = match chat.caller {
            Caller::Tenant => self.api_key(),
            Caller::Admin => self.keys.admin.as_ref(),
        };
        let mut request = self.request(Method::POST, path, key).timeout(chat.timeout).json(&body);
        match chat.cache {
            CacheUse::On => {}
            CacheUse::ReadOnly => request = request.header("x-reprise-cache", "read-only"),
            CacheUse::Off => request = request.header("x-reprise-cache", "off"),
        }
        if chat.priority == Priority::Batch {
            request = request.header("x-reprise-priority", "batch");
        }
        if !chat.exact_reuse {
            request = request.header("cache-control", "no-cache");
        }
        request
    }

    pub(super) fn api_key(&self) -> Option<&SecretString> {
        self.keys.api.as_ref().or(self.keys.admin.as_ref())
    }
}

impl Answer {
    fn from_headers(headers: &HeaderMap) -> Self {
        let text = |name: &str| header(headers, name).map(ToOwned::to_owned);
        let number = |name: &str| header(headers, name).and_then(|value| value.parse::<f64>().ok());
        Self {
            request_id: text("x-request-id"),
            tier: text("x-reprise-tier"),
            cache: text("x-reprise-cache"),
            examples: header(headers, "x-reprise-examples").and_then(|value| value.parse().ok()),
            similarity: number("x-reprise-similarity"),
            overhead_ms: number("x-reprise-overhead-ms"),
            ..Self::default()
        }
    }

    /// Takes a chunk in; true if it brought text.
    fn take(&mut self, chunk: Chunk) -> bool {
        self.model = chunk.model.or(self.model.take());
        if let Some(usage) = chunk.usage {
            self.prompt_tokens = Some(usage.prompt_tokens);
            self.completion_tokens = Some(usage.completion_tokens);
        }
        let mut brought = false;
        if let Some(choice) = chunk.choices.into_iter().next() {
            let text = choice.delta.content.unwrap_or_default();
            brought = !text.is_empty();
            self.text.push_str(&text);
            self.finish_reason = choice.finish_reason.or(self.finish_reason.take());
        }
        brought
    }

    /// Prompt and completion tokens together, 0 where the answer does not say.
    #[must_use]
    pub fn tokens(&self) -> u64 {
        u64::from(self.prompt_tokens.unwrap_or(0)) + u64::from(self.completion_tokens.unwrap_or(0))
    }
}
