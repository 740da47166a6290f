//! One user message and its answer, timed where it arrives: at the client.

use std::time::Duration;

use futures::StreamExt;
use reprise_openai::chat::{ChatCompletion, ChatCompletionChunk, ChatMessage, ChatRequest, StreamOptions};
use reprise_openai::sse::EventReader;
use reprise_openai::{ErrorResponse, Usage};
use reqwest::header::HeaderMap;
use reqwest::{Method, RequestBuilder};
use secrecy::SecretString;
use tokio::time::Instant;

use super::{Gateway, GatewayError, header};

/// What is asked, and how.
#[derive(Debug, Clone)]
pub struct Chat<'a> {
    /// `auto`, a tier, or a model.
    pub model: &'a str,
    pub prompt: &'a str,
    /// Turns before it, user and assistant: examples that the caller shows.
    pub earlier: &'a [(&'a str, &'a str)],
    pub temperature: f64,
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
    /// Of the prompt, those that the tier did not compute again.
    pub cached_tokens: Option<u32>,
    pub completion_tokens: Option<u32>,
    /// To the first delta with text in it.
    pub ttft: Option<Duration>,
    pub e2e: Duration,
    /// Mean time between deltas with text; a delta is a token, or a few where the gateway joins them.
    pub inter_token: Option<Duration>,
}

impl Gateway {
    /// Asks for a stream and reads it to its end.
    pub async fn chat_streamed(&self, chat: &Chat<'_>) -> Result<Answer, GatewayError> {
        let path = "/v1/chat/completions";
        let begin = Instant::now();
        let (url, response) = self.send(path, self.chat_request(path, chat, true)).await?;
        let mut answer = Answer::from_headers(response.headers());
        let mut events = EventReader::default();
        let mut body = response.bytes_stream();
        let (mut first, mut last, mut deltas, mut done) = (None, None, 0u32, false);
        while let Some(bytes) = body.next().await {
            let bytes = bytes.map_err(|source| GatewayError::Transport { url: url.clone(), source })?;
            let now = begin.elapsed();
            let broken = |message: String| GatewayError::Stream { url: url.clone(), message };
            for event in events.push(&bytes).map_err(|error| broken(error.to_string()))? {
                if event.data == "[DONE]" {
                    done = true;
                    continue;
                }
                if let Ok(error) = serde_json::from_str::<ErrorResponse>(&event.data) {
                    return Err(broken(error.error.message));
                }
                let chunk: ChatCompletionChunk = serde_json::from_str(&event.data)
                    .map_err(|source| GatewayError::Body { url: url.clone(), source })?;
                if answer.take_chunk(chunk) {
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
        let completion: ChatCompletion =
            serde_json::from_slice(&bytes).map_err(|source| GatewayError::Body { url, source })?;
        answer.take_whole(completion);
        answer.e2e = begin.elapsed();
        Ok(answer)
    }

    fn chat_request(&self, path: &str, chat: &Chat<'_>, stream: bool) -> RequestBuilder {
        let body = ChatRequest {
            model: chat.model.to_owned(),
            messages: messages(chat),
            temperature: Some(chat.temperature),
            seed: chat.seed.map(|seed| i64::try_from(seed).unwrap_or(i64::MAX)),
            max_tokens: Some(i64::from(chat.max_tokens)),
            stream: Some(stream),
            stream_options: stream
                .then(|| StreamOptions { include_usage: Some(true), ..StreamOptions::default() }),
            ..ChatRequest::default()
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

fn messages(chat: &Chat<'_>) -> Vec<ChatMessage> {
    let turns = chat.earlier.iter().flat_map(|(request, answer)| {
        [ChatMessage::new("user", *request), ChatMessage::new("assistant", *answer)]
    });
    turns.chain([ChatMessage::new("user", chat.prompt)]).collect()
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

    /// True if the chunk brought text.
    fn take_chunk(&mut self, chunk: ChatCompletionChunk) -> bool {
        self.model = Some(chunk.model);
        self.take_usage(chunk.usage.flatten());
        let Some(choice) = chunk.choices.into_iter().next() else { return false };
        let text = choice.delta.content.unwrap_or_default();
        self.text.push_str(&text);
        self.finish_reason = choice.finish_reason.or(self.finish_reason.take());
        !text.is_empty()
    }

    fn take_whole(&mut self, completion: ChatCompletion) {
        self.model = Some(completion.model);
        self.take_usage(completion.usage);
        if let Some(choice) = completion.choices.into_iter().next() {
            self.text = choice.message.content.unwrap_or_default();
            self.finish_reason = choice.finish_reason;
        }
    }

    fn take_usage(&mut self, usage: Option<Usage>) {
        if let Some(usage) = usage {
            self.prompt_tokens = Some(usage.prompt_tokens);
            self.cached_tokens = usage.prompt_tokens_details.map(|details| details.cached_tokens);
            self.completion_tokens = Some(usage.completion_tokens);
        }
    }

    /// Prompt and completion tokens together, 0 where the answer does not say.
    #[must_use]
    pub fn tokens(&self) -> u64 {
        u64::from(self.prompt_tokens.unwrap_or(0)) + u64::from(self.completion_tokens.unwrap_or(0))
    }
}
