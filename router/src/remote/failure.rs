//! What went wrong upstream, as a [`TierError`]. No message holds the URL or the key.

use std::time::Duration;

use reprise_tier::TierError;
use reqwest::header::{HeaderMap, RETRY_AFTER};
use serde_json::Value;

const EXCERPT_CHARS: usize = 200;
const LONGEST_RETRY: Duration = Duration::from_secs(3600);

/// The upstream sent what is not an answer.
pub fn garbage(message: &str) -> TierError {
    broken(&format!("unusable answer: {message}"))
}

/// The upstream stopped before its answer was complete, or was never reached.
pub fn broken(message: &str) -> TierError {
    TierError::Upstream { status: None, message: message.to_owned(), retry_after: None }
}

/// An error status and its body.
pub fn of_status(status: u16, headers: &HeaderMap, body: &[u8]) -> TierError {
    let retry_after = headers
        .get(RETRY_AFTER)
        .and_then(|value| value.to_str().ok())
        // The other form, a date, is not understood, and counts as absent.
        .and_then(|value| value.trim().parse::<u64>().ok())
        .map(|seconds| Duration::from_secs(seconds).min(LONGEST_RETRY));
    match of_body(Some(status), body) {
        TierError::Upstream { status, message, .. } => TierError::Upstream { status, message, retry_after },
        other => other,
    }
}

/// OpenAI's error body, or one of the other shapes in use, or an excerpt of whatever it is.
pub fn of_body(status: Option<u16>, body: &[u8]) -> TierError {
    match serde_json::from_slice::<Value>(body) {
        Ok(value) => of_value(status, value.get("error").unwrap_or(&value)),
        Err(_) => {
            let text = excerpt(&String::from_utf8_lossy(body));
            let message = if text.is_empty() { "an error without a message".to_owned() } else { text };
            TierError::Upstream { status, message, retry_after: None }
        }
    }
}

/// The value of an `error` field.
pub fn of_value(status: Option<u16>, error: &Value) -> TierError {
    let text = ["message", "detail", "error"].iter().find_map(|key| error.get(key).and_then(Value::as_str));
    let message = match text.or_else(|| error.as_str()) {
        Some(text) => excerpt(text),
        None => excerpt(&error.to_string()),
    };
    let code = error.get("code").and_then(Value::as_u64).and_then(|code| u16::try_from(code).ok());
    let status = status.or(code.filter(|code| (400..600).contains(code)));
    TierError::Upstream { status, message, retry_after: None }
}

/// The start of a text, on one line.
pub fn excerpt(text: &str) -> String {
    let mut chars = text.trim().chars().map(|c| if c.is_control() { ' ' } else { c });
    let start: String = chars.by_ref().take(EXCERPT_CHARS).collect();
    if chars.next().is_some() { start + "..." } else { start }
}

/// A failure of the transport, with its innermost cause: reqwest's own message tells only the stage.
pub fn of_transport(error: reqwest::Error) -> TierError {
    let error = error.without_url();
    let stage = if error.is_connect() { "cannot connect" } else { "the connection failed" };
    broken(&format!("{stage}: {}", innermost(&error)))
}

/// A failure of a connection that stood.
pub fn of_connection(error: &hyper::Error) -> TierError {
    broken(&format!("the connection failed: {}", innermost(error)))
}

fn innermost<'a>(error: &'a (dyn std::error::Error + 'static)) -> &'a (dyn std::error::Error + 'static) {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause
}
