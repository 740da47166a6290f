use std::{env, path::PathBuf, sync::Arc, time::Duration};

use hf_hub::{Repo, RepoType, api::tokio::ApiBuilder};
use tokio::{net::TcpStream, time::timeout};

use crate::Progress;

/// A machine that cannot reach the hub should know within seconds, not after a client's retries.
const REACH: Duration = Duration::from_secs(4);
/// Longest time for one file: a gigabyte at a megabit a second is given up.
const FILE: Duration = Duration::from_secs(4 * 3600);

/// Downloads one file into the hub client's cache under `cache`, resuming what is there, and returns its path.
pub async fn fetch(
    repo: &str,
    revision: &str,
    path: &str,
    cache: PathBuf,
    progress: Arc<dyn Progress>,
) -> Result<PathBuf, String> {
    if env::var("HF_HUB_OFFLINE").is_ok_and(|value| !matches!(value.as_str(), "" | "0" | "false")) {
        return Err("HF_HUB_OFFLINE is set".into());
    }
    let endpoint = env::var("HF_ENDPOINT").unwrap_or_else(|_| "https://huggingface.co".into());
    reach(&endpoint).await?;
    let api = ApiBuilder::from_env()
        .with_endpoint(endpoint)
        .with_cache_dir(cache)
        .with_progress(false)
        .build()
        .map_err(|error| error.to_string())?;
    let repo = api.repo(Repo::with_revision(repo.to_owned(), RepoType::Model, revision.to_owned()));
    let download = repo.download_with_progress(path, Meter(progress));
    match timeout(FILE, download).await {
        Ok(Ok(path)) => Ok(path),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err(format!("{path} took over {} hours", FILE.as_secs() / 3600)),
    }
}

/// Whether the endpoint's host answers at all; through a proxy, that is the client's business.
async fn reach(endpoint: &str) -> Result<(), String> {
    if ["https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"].iter().any(|name| env::var_os(name).is_some())
    {
        return Ok(());
    }
    let (secure, rest) = match endpoint.split_once("://") {
        Some((scheme, rest)) => (scheme != "http", rest),
        None => (true, endpoint),
    };
    let authority = rest.split('/').next().unwrap_or(rest);
    let address = match authority.rsplit_once(':') {
        Some((_, port)) if port.parse::<u16>().is_ok() => authority.to_owned(),
        _ => format!("{authority}:{}", if secure { 443 } else { 80 }),
    };
    match timeout(REACH, TcpStream::connect(&address)).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(error)) => Err(format!("{address} cannot be reached: {error}")),
        Err(_) => Err(format!("{address} did not answer within {} s", REACH.as_secs())),
    }
}

#[derive(Debug, Clone)]
struct Meter(Arc<dyn Progress>);

impl hf_hub::api::tokio::Progress for Meter {
    async fn init(&mut self, size: usize, filename: &str) {
        self.0.begin(filename, 0, size as u64);
    }

    async fn update(&mut self, size: usize) {
        self.0.advance(size as u64);
    }

    async fn finish(&mut self) {
        self.0.end();
    }
}
