use std::path::PathBuf;
use std::time::Duration;

use reprise_openai::ErrorResponse;
use thiserror::Error;

/// A call that brought no answer.
#[derive(Debug, Error)]
pub enum GatewayError {
    #[error("{base:?} is not an http or https address")]
    Address { base: String },
    #[error("cannot read {}", .path.display())]
    CaFile { path: PathBuf, source: std::io::Error },
    #[error("{} holds no certificates", .path.display())]
    NoCertificates { path: PathBuf },
    #[error("{url}: {}", chain(source))]
    Transport { url: String, source: reqwest::Error },
    /// The gateway answered with an error.
    #[error("{url}: {status}: {message}")]
    Refused { url: String, status: u16, message: String, code: Option<String>, retry_after_s: Option<u64> },
    #[error("{url}: the answer is not what the contract says: {source}")]
    Body { url: String, source: serde_json::Error },
    #[error("{url}: the stream broke off: {message}")]
    Stream { url: String, message: String },
}

impl GatewayError {
    pub(super) fn refused(url: String, status: u16, body: &str, retry_after_s: Option<u64>) -> Self {
        let (message, code) = match serde_json::from_str::<ErrorResponse>(body) {
            Ok(body) => (body.error.message, body.error.code),
            Err(_) => (body.chars().take(300).collect(), None),
        };
        Self::Refused { url, status, message, code, retry_after_s }
    }

    /// The HTTP status, where there was an answer.
    #[must_use]
    pub fn status(&self) -> Option<u16> {
        match self {
            Self::Refused { status, .. } => Some(*status),
            _ => None,
        }
    }

    /// How long to wait before the same call may go through, where the gateway is only too busy for it now.
    #[must_use]
    pub fn wait_and_retry(&self) -> Option<Duration> {
        match self {
            Self::Refused { status: 429 | 503, retry_after_s, .. } => {
                Some(Duration::from_secs(retry_after_s.unwrap_or(1).clamp(1, 30)))
            }
            _ => None,
        }
    }
}

/// reqwest's own message leaves its cause out.
fn chain(error: &reqwest::Error) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
