use std::{
    env,
    path::{Path, PathBuf},
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use hf_hub::{Repo, RepoType, api::tokio::ApiBuilder};
use tokio::{
    net::TcpStream,
    time::{sleep, timeout},
};

use crate::Progress;

/// A machine that cannot reach the hub should know within seconds, not after a client's retries.
const REACH: Duration = Duration::from_secs(4);
/// Until the hub says how large a file is.
const FIRST_ANSWER: Duration = Duration::from_secs(15);
/// Without a single byte.
const STALL: Duration = Duration::from_secs(60);
/// What a killed download loses at most.
const CHUNK: usize = 32 << 20;

/// The Hugging Face hub, or one that speaks as it does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hub {
    endpoint: String,
    offline: bool,
}

impl Hub {
    /// As `HF_ENDPOINT` and `HF_HUB_OFFLINE` say.
    #[must_use]
    pub fn from_env() -> Self {
        let endpoint = env::var("HF_ENDPOINT").ok().filter(|endpoint| !endpoint.is_empty());
        let offline = env::var("HF_HUB_OFFLINE").unwrap_or_default().to_lowercase();
        Self {
            endpoint: endpoint.unwrap_or_else(|| "https://huggingface.co".into()),
            offline: !matches!(offline.as_str(), "" | "0" | "false" | "no" | "off"),
        }
    }

    #[must_use]
    pub fn at(endpoint: impl Into<String>) -> Self {
        Self { endpoint: endpoint.into(), offline: false }
    }

    #[must_use]
    pub fn offline(mut self) -> Self {
        self.offline = true;
        self
    }

    /// Whether the endpoint's host answers at all; through a proxy, only the first request can tell.
    pub(crate) async fn reach(&self) -> Result<(), String> {
        if self.offline {
            return Err("HF_HUB_OFFLINE is set".into());
        }
        let proxied = ["https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"];
        if proxied.iter().any(|name| env::var_os(name).is_some()) {
            return Ok(());
        }
        let address = address(&self.endpoint);
        match timeout(REACH, TcpStream::connect(&address)).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => Err(format!("{address} cannot be reached: {error}")),
            Err(_) => Err(format!("{address} did not answer within {} s", REACH.as_secs())),
        }
    }

    /// Downloads one file into the hub client's cache under `cache`, going on with what is there, and returns its path.
    pub(crate) async fn fetch(
        &self,
        repo: &str,
        revision: &str,
        path: &str,
        cache: &Path,
        progress: &Arc<dyn Progress>,
    ) -> Result<PathBuf, String> {
        let api = ApiBuilder::from_env()
            .with_endpoint(self.endpoint.trim_end_matches('/').to_owned())
            .with_cache_dir(cache.to_owned())
            .with_chunk_size(Some(CHUNK))
            .with_progress(false)
            .build()
            .map_err(|error| error.to_string())?;
        let repo = api.repo(Repo::with_revision(repo.to_owned(), RepoType::Model, revision.to_owned()));
        let meter = Meter { progress: Arc::clone(progress), calls: Arc::default() };
        let mut download = pin!(repo.download_with_progress(path, meter.clone()));
        let mut calls = 0;
        let outcome = loop {
            let patience = if calls == 0 { FIRST_ANSWER } else { STALL };
            tokio::select! {
                outcome = &mut download => break outcome.map_err(|error| format!("{path}: {error}")),
                () = sleep(patience) => {
                    let seen = meter.calls.load(Ordering::Relaxed);
                    if seen == calls {
                        break Err(format!("{path}: nothing came for {} s", patience.as_secs()));
                    }
                    calls = seen;
                }
            }
        };
        progress.end();
        outcome
    }
}

/// Host and port.
fn address(endpoint: &str) -> String {
    let (secure, rest) = match endpoint.split_once("://") {
        Some((scheme, rest)) => (scheme != "http", rest),
        None => (true, endpoint),
    };
    let authority = rest.split('/').next().unwrap_or(rest);
    match authority.rsplit_once(':') {
        Some((_, port)) if port.parse::<u16>().is_ok() => authority.to_owned(),
        _ => format!("{authority}:{}", if secure { 443 } else { 80 }),
    }
}

/// Passes the client's progress on, and counts its calls: a download that makes none has stalled.
#[derive(Debug, Clone)]
struct Meter {
    progress: Arc<dyn Progress>,
    calls: Arc<AtomicU64>,
}

impl hf_hub::api::tokio::Progress for Meter {
    async fn init(&mut self, size: usize, filename: &str) {
        self.calls.fetch_add(1, Ordering::Relaxed);
        self.progress.begin(filename, 0, size as u64);
    }

    async fn update(&mut self, size: usize) {
        self.calls.fetch_add(1, Ordering::Relaxed);
        self.progress.advance(size as u64);
    }

    async fn finish(&mut self) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_names_host_and_port() {
        assert_eq!(address("https://huggingface.co"), "huggingface.co:443");
        assert_eq!(address("http://mirror.example/hub"), "mirror.example:80");
        assert_eq!(address("http://127.0.0.1:8123/"), "127.0.0.1:8123");
        assert_eq!(address("http://[::1]:8123/"), "[::1]:8123");
    }
}
