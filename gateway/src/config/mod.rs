//! The configuration: TOML is read and checked once, here; nothing behind it checks again.

#[cfg(test)]
mod fuzz_tests;
mod print;
mod raw;
mod read;
mod reference;
mod reload;
mod secret;
mod suggest;
mod telemetry;
mod tier;
mod tls;
mod validate;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use reprise_accounts::Limits;
use reprise_router::{BreakerConfig, RouterConfig};
use secrecy::SecretString;

use raw::RawConfig;
pub use raw::{CacheSection, EmbedderSection, LedgerSection, Unwritable};
pub use read::ConfigError;
pub use telemetry::TelemetryPlan;
pub use tier::{LocalPlan, RemotePlan, TierPlan, Weights};
pub use validate::{ADMIN_TENANT, seconds_of};

/// A configuration that holds: every value in its range, every secret found.
#[derive(Debug)]
pub struct Config {
    pub listen: SocketAddr,
    pub data_dir: PathBuf,
    pub server: Server,
    /// `None`: plain HTTP.
    pub tls: Option<Arc<rustls::ServerConfig>>,
    pub auth: Auth,
    pub ledger: LedgerSection,
    pub resilience: Resilience,
    /// At least one; names differ.
    pub tiers: Vec<TierPlan>,
    pub cache: CacheSection,
    pub embedder: EmbedderSection,
    pub router: RouterConfig,
    /// One of `tiers`: takes what cache and router were too late for.
    pub default_tier: String,
    /// What cache and router may take together before a request goes straight to the default tier.
    pub decision_deadline: Duration,
    /// Tokens of shadow runs; 0: there are none.
    pub shadow_tokens_per_hour: u32,
    /// `None`: no traces.
    pub telemetry: Option<TelemetryPlan>,
    /// As it was written.
    raw: RawConfig,
}

#[derive(Debug, Clone)]
pub struct Server {
    pub max_body_bytes: usize,
    pub request_timeout: Duration,
    pub header_timeout: Duration,
    pub body_timeout: Duration,
    pub write_stall_timeout: Duration,
    pub drain_timeout: Duration,
    pub max_concurrent_requests: usize,
}

#[derive(Debug)]
pub struct Auth {
    pub admin_key: Option<SecretString>,
    pub keys: Vec<KeyEntry>,
    /// What all keys of a tenant may use together.
    pub tenants: HashMap<String, Arc<Limits>>,
    /// For requests that set none where tokens are limited.
    pub default_max_tokens: u32,
}

/// One client key, as its SHA-256.
#[derive(Debug, Clone)]
pub struct KeyEntry {
    pub name: String,
    pub tenant: String,
    pub sha256: [u8; 32],
    /// Only these; `None`: all.
    pub tiers: Option<Vec<String>>,
    pub limits: Limits,
}

/// What is done about tiers that fail or are slow.
#[derive(Debug, Clone)]
pub struct Resilience {
    pub fallback: Vec<String>,
    pub retries: u32,
    pub retry_backoff: Duration,
    pub retry_share: f64,
    pub hedge_share: f64,
    pub breaker: BreakerConfig,
    pub longest_wait: Duration,
    pub single_flight: bool,
}

/// What the command line says over the file.
#[derive(Debug, Clone, Default)]
pub struct Overrides {
    pub listen: Option<SocketAddr>,
    pub data_dir: Option<PathBuf>,
}

impl Config {
    /// The embedded default if there is no file.
    ///
    /// # Errors
    /// The file cannot be read, or something in it is wrong: the message names the key.
    pub fn load(file: Option<&Path>, overrides: Overrides) -> Result<Self, ConfigError> {
        let mut raw = read::file(file)?;
        if let Some(listen) = overrides.listen {
            raw.listen = listen;
        }
        if let Some(data_dir) = overrides.data_dir {
            raw.data_dir = data_dir;
        }
        validate::config(raw)
    }

    /// Files beside the configuration's own whose change is a change of it.
    pub fn named_files(&self) -> impl Iterator<Item = &Path> {
        let tls = &self.raw.server.tls;
        [&tls.cert, &tls.key].into_iter().flatten().map(PathBuf::as_path)
    }

    /// Every key with type, default and meaning, as Markdown.
    ///
    /// # Errors
    /// The defaults cannot be written: a bug.
    pub fn reference() -> Result<String, ConfigError> {
        reference::markdown()
    }

    /// What `load` would use, every default spelled out, as TOML. Secrets are not in it: it names where they are.
    ///
    /// # Errors
    /// As for [`Config::load`].
    pub fn print(file: Option<&Path>) -> Result<String, ConfigError> {
        let raw = read::file(file)?;
        validate::config(raw.clone())?;
        print::toml(&raw)
    }
}
