use std::time::Duration;

use reqwest::Url;
use secrecy::SecretString;
use thiserror::Error;

/// A tier that runs elsewhere, behind any OpenAI-compatible API.
#[derive(Debug, Clone)]
pub struct RemoteConfig {
    /// The tier's name in the pool.
    pub name: String,
    /// Up to and with the version, as OpenAI's clients take it: `https://api.example.com/v1`.
    pub base_url: String,
    pub api_key: Option<SecretString>,
    /// The model's id at the upstream.
    pub model: String,
    /// Relative cost of one token, in [0, 1].
    pub cost: f64,
    /// Prompt and completion together, in tokens.
    pub context_length: u32,
    pub timeouts: RemoteTimeouts,
    /// The most requests under way at once.
    pub max_concurrent: usize,
    /// The most requests that wait for one of those; more are refused as overloaded.
    pub queue: usize,
}

impl RemoteConfig {
    /// With what is seldom changed at its default: no key, 8192 tokens of context, 32 requests at once, 64 waiting.
    #[must_use]
    pub fn new(
        name: impl Into<String>,
        base_url: impl Into<String>,
        model: impl Into<String>,
        cost: f64,
    ) -> Self {
        Self {
            name: name.into(),
            base_url: base_url.into(),
            api_key: None,
            model: model.into(),
            cost,
            context_length: 8192,
            timeouts: RemoteTimeouts::default(),
            max_concurrent: 32,
            queue: 64,
        }
    }

    pub(super) fn endpoint(&self, path: &str) -> Result<Url, RemoteConfigError> {
        let base = self.base_url.trim_end_matches('/');
        let url = Url::parse(&format!("{base}/{path}")).map_err(|error| RemoteConfigError::Url {
            url: self.base_url.clone(),
            reason: error.to_string(),
        })?;
        if matches!(url.scheme(), "http" | "https") {
            Ok(url)
        } else {
            Err(RemoteConfigError::Url { url: self.base_url.clone(), reason: "not http or https".to_owned() })
        }
    }
}

/// How long a remote tier waits. What none of these bounds, the request's deadline does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RemoteTimeouts {
    pub connect: Duration,
    /// From sending the request to the first byte of the answer's body.
    pub first_byte: Duration,
    /// Between two pieces of the body.
    pub idle: Duration,
}

impl Default for RemoteTimeouts {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(5),
            first_byte: Duration::from_secs(60),
            idle: Duration::from_secs(30),
        }
    }
}

/// A remote tier that cannot be.
#[derive(Debug, Error)]
pub enum RemoteConfigError {
    #[error("\"{url}\" is not the base URL of an API: {reason}")]
    Url { url: String, reason: String },
    #[error("the API key cannot stand in a header")]
    ApiKey,
    #[error("max_concurrent is 0")]
    Concurrency,
    #[error("cannot build the HTTP client")]
    Client(#[from] reqwest::Error),
}
