//! Around every request: its id, its headers, its counters, and a net for panics.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::extract::{MatchedPath, Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use futures::FutureExt;
use http::header::CACHE_CONTROL;
use http::{HeaderMap, HeaderName, HeaderValue};
use jiff::Timestamp;
use reprise_accounts::Standing;

use crate::decisions::CacheStatus;
use crate::error::ApiError;
use crate::id;
use crate::state::SharedState;
use crate::telemetry::{Place, TRACEPARENT};

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const TIER: HeaderName = HeaderName::from_static("x-reprise-tier");
const CACHE: HeaderName = HeaderName::from_static("x-reprise-cache");
const EXAMPLES: HeaderName = HeaderName::from_static("x-reprise-examples");
const SIMILARITY: HeaderName = HeaderName::from_static("x-reprise-similarity");
const OVERHEAD: HeaderName = HeaderName::from_static("x-reprise-overhead-ms");
const LONGEST_ID: usize = 128;

/// What is known of a request before anything of it is read; handlers find it among the extensions.
#[derive(Debug, Clone)]
pub struct RequestInfo {
    pub id: Arc<str>,
    pub begun: Instant,
    pub at: Timestamp,
    /// Where it stands in a trace.
    pub place: Option<Place>,
}

/// What a handler leaves among its response's extensions for the headers.
#[derive(Debug, Clone, Default)]
pub struct Facts {
    pub tier: Option<String>,
    pub cache: CacheStatus,
    pub examples: usize,
    pub similarity: Option<f32>,
    /// Time that the gateway spent waiting for a tier.
    pub waited: Duration,
    /// What is left of the caller's limits.
    pub standing: Standing,
    /// The handler counts the request itself, when its answer has ended.
    pub counts_itself: bool,
}

pub async fn wrap(State(state): State<SharedState>, mut request: Request, next: Next) -> Response {
    let info = RequestInfo {
        id: request_id(request.headers()),
        begun: Instant::now(),
        at: Timestamp::now(),
        place: state.telemetry.place(request.headers()),
    };
    let endpoint = endpoint(request.extensions().get::<MatchedPath>());
    request.extensions_mut().insert(info.clone());
    let mut response = match AssertUnwindSafe(next.run(request)).catch_unwind().await {
        Ok(response) => response,
        Err(_) => {
            state.metrics.panics.inc();
            tracing::error!(request = %info.id, endpoint, "the request ended in a panic");
            ApiError::internal().into_response()
        }
    };
    let facts = response.extensions_mut().remove::<Facts>().unwrap_or_default();
    let overhead = info.begun.elapsed().saturating_sub(facts.waited);
    let status = response.status();
    if let Ok(id) = HeaderValue::from_str(&info.id) {
        response.headers_mut().insert(REQUEST_ID, id);
    }
    if let Some(trace) = info.place.and_then(|place| HeaderValue::from_str(&place.own.to_string()).ok()) {
        response.headers_mut().insert(TRACEPARENT, trace);
    }
    if openai(endpoint) || endpoint == "admin" {
        // Whoever stands between must not give one caller's answer to another.
        response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("private, no-store"));
    }
    if openai(endpoint) {
        facts_to_headers(&facts, overhead, response.headers_mut());
        state.metrics.overhead.with_label_values(&[endpoint]).observe(overhead.as_secs_f64());
        if !facts.counts_itself {
            let labels = [endpoint, status.as_str(), "", ""];
            state.metrics.requests.with_label_values(&labels).inc();
            let elapsed = info.begun.elapsed().as_secs_f64();
            state.metrics.request_duration.with_label_values(&[endpoint, "", ""]).observe(elapsed);
        }
    }
    response
}

fn facts_to_headers(facts: &Facts, overhead: Duration, headers: &mut HeaderMap) {
    let text = |text: &str| HeaderValue::from_str(text).ok();
    let pairs = [
        (CACHE, text(facts.cache.as_str())),
        (EXAMPLES, Some(facts.examples.into())),
        (OVERHEAD, text(&format!("{:.3}", overhead.as_secs_f64() * 1e3))),
        (TIER, facts.tier.as_deref().and_then(text)),
        (SIMILARITY, facts.similarity.and_then(|similarity| text(&format!("{similarity:.4}")))),
    ];
    headers.extend(pairs.into_iter().filter_map(|(name, value)| Some((name, value?))));
    let Standing { requests, tokens } = facts.standing;
    for (left, names) in [(requests, REQUESTS), (tokens, TOKENS)] {
        let [limit, remaining, reset] = names.map(HeaderName::from_static);
        let Some(left) = left else { continue };
        headers.insert(limit, left.limit.into());
        headers.insert(remaining, left.remaining.into());
        headers.extend(text(&format!("{}s", left.reset.as_secs())).map(|time| (reset, time)));
    }
}

const REQUESTS: [&str; 3] =
    ["x-ratelimit-limit-requests", "x-ratelimit-remaining-requests", "x-ratelimit-reset-requests"];
const TOKENS: [&str; 3] =
    ["x-ratelimit-limit-tokens", "x-ratelimit-remaining-tokens", "x-ratelimit-reset-tokens"];

/// The client's own id if it is sane: visible ASCII, short; else one of ours.
fn request_id(headers: &HeaderMap) -> Arc<str> {
    let sent = headers.get(REQUEST_ID).and_then(|id| id.to_str().ok());
    let sane = |id: &&str| {
        !id.is_empty() && id.len() <= LONGEST_ID && id.bytes().all(|byte| byte.is_ascii_graphic())
    };
    match sent.filter(sane) {
        Some(id) => id.into(),
        None => format!("req_{}", id::v7().simple()).into(),
    }
}

/// The label of a route; an unknown one is always the same, so that nobody can make labels.
fn endpoint(path: Option<&MatchedPath>) -> &'static str {
    match path.map(MatchedPath::as_str) {
        Some("/v1/chat/completions") => "chat",
        Some("/v1/completions") => "completions",
        Some("/v1/embeddings") => "embeddings",
        Some("/v1/feedback") => "feedback",
        Some("/v1/models" | "/v1/models/{*id}") => "models",
        Some("/v1/responses" | "/v1/responses/{id}" | "/v1/responses/{id}/input_items") => "responses",
        Some("/livez" | "/readyz") => "health",
        Some("/metrics") => "metrics",
        Some(path) if path.starts_with("/admin/") => "admin",
        Some(_) => "console",
        None => "unknown",
    }
}

fn openai(endpoint: &str) -> bool {
    matches!(
        endpoint,
        "chat" | "completions" | "embeddings" | "feedback" | "models" | "responses" | "unknown"
    )
}

#[cfg(test)]
mod tests {
    use reprise_accounts::Left;

    use super::*;

    fn id(sent: &str) -> Arc<str> {
        let mut headers = HeaderMap::new();
        headers.insert(REQUEST_ID, HeaderValue::from_bytes(sent.as_bytes()).unwrap());
        request_id(&headers)
    }

    #[test]
    fn a_sane_id_of_the_client_is_kept() {
        assert_eq!(&*id("trace-1/2:3"), "trace-1/2:3");
        for bad in ["", "a b", "\u{e9}", &"x".repeat(129)] {
            assert!(id(bad).starts_with("req_"), "{bad}");
        }
        assert_ne!(request_id(&HeaderMap::new()), request_id(&HeaderMap::new()));
    }

    #[test]
    fn the_headers_of_the_contract() {
        let mut headers = HeaderMap::new();
        let facts = Facts {
            tier: Some("small".into()),
            cache: CacheStatus::Examples,
            examples: 3,
            similarity: Some(0.91),
            standing: Standing {
                tokens: Some(Left { limit: 100, remaining: 40, reset: Duration::from_secs(61) }),
                requests: None,
            },
            ..Facts::default()
        };
        facts_to_headers(&facts, Duration::from_micros(1234), &mut headers);
        let get = |name: &str| headers[name].to_str().unwrap().to_owned();
        assert_eq!(get("x-reprise-tier"), "small");
        assert_eq!(get("x-reprise-cache"), "EXAMPLES");
        assert_eq!(get("x-reprise-examples"), "3");
        assert_eq!(get("x-reprise-similarity"), "0.9100");
        assert_eq!(get("x-reprise-overhead-ms"), "1.234");
        assert_eq!(get("x-ratelimit-limit-tokens"), "100");
        assert_eq!(get("x-ratelimit-remaining-tokens"), "40");
        assert_eq!(get("x-ratelimit-reset-tokens"), "61s");
        assert!(!headers.contains_key("x-ratelimit-limit-requests"));
    }
}
