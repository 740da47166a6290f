use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context;
use reprise_cache::{Cache, CacheConfig, Order, SledStore, check};
use serde_json::json;

use crate::boot::{data_dir, load_embedder, puller};
use crate::config::{Config, Overrides};
use crate::state::now_ms;

#[derive(Debug, clap::Subcommand)]
pub enum StoreCommand {
    /// Open the store and read all of it; says what is there as one JSON object.
    Check(Place),
    /// Print every example as a line of JSON.
    Export {
        #[command(flatten)]
        place: Place,
        /// Whose embedder the examples are of.
        #[arg(long)]
        config: Option<PathBuf>,
    },
}

#[derive(Debug, clap::Args)]
pub struct Place {
    /// The gateway's data directory.
    #[arg(long, value_name = "DIR", default_value = "reprise-data")]
    data_dir: PathBuf,
    /// The store's own folder, instead of the one in the data directory.
    #[arg(long, value_name = "DIR")]
    store: Option<PathBuf>,
}

const PAGE: usize = 1000;

impl StoreCommand {
    pub fn run(self) -> anyhow::Result<()> {
        match self {
            Self::Check(place) => {
                let report = check(&place.folder()?)?;
                println!("{}", serde_json::to_string(&report)?);
                Ok(())
            }
            Self::Export { place, config } => export(&place.folder()?, config.as_deref()),
        }
    }
}

impl Place {
    fn folder(&self) -> anyhow::Result<PathBuf> {
        let folder = self.store.clone().unwrap_or_else(|| data_dir::store(&self.data_dir));
        anyhow::ensure!(folder.is_dir(), "there is no store at {}", folder.display());
        Ok(folder)
    }
}

/// The lines can be imported again: `request`, `answer` and `quality` are what the import takes.
fn export(folder: &Path, config: Option<&Path>) -> anyhow::Result<()> {
    let config = Config::load(config, Overrides::default())?;
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().context("no async runtime")?;
    let embedder = runtime.block_on(load_embedder(&puller()?, &config.embedder))?;
    let store = Arc::new(SledStore::open(folder)?);
    let cache = Cache::open(CacheConfig::default(), embedder.model_hash(), embedder.dimensions(), store)?;
    let mut out = std::io::stdout().lock();
    for tenant in cache.tenants() {
        let memory = cache.tenant(&tenant);
        let mut after = None;
        loop {
            let page = memory.list(Order::Recent, PAGE, after, now_ms());
            for example in &page.examples {
                writeln!(out, "{}", json!({ "tenant": tenant, "example": example }))?;
            }
            after = page.examples.last().map(|example| example.id);
            if !page.has_more {
                break;
            }
        }
    }
    Ok(())
}
