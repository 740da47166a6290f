//! A tier that runs elsewhere, behind any OpenAI-compatible API, reached with reqwest.

mod config;

pub use config::{RemoteConfig, RemoteConfigError, RemoteTimeouts};
