use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::Context;

use crate::boot;
use crate::config::{Config, Overrides};

#[derive(Debug, clap::Args)]
pub struct Serve {
    /// A TOML file; the embedded default if left out.
    #[arg(long)]
    config: Option<PathBuf>,
    /// Over the configuration's `listen`.
    #[arg(long, value_name = "ADDR")]
    listen: Option<SocketAddr>,
    /// Over the configuration's `data_dir`.
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Log lines as JSON.
    #[arg(long)]
    log_json: bool,
}

impl Serve {
    pub fn run(self) -> anyhow::Result<()> {
        let overrides = Overrides { listen: self.listen, data_dir: self.data_dir };
        let config = Config::load(self.config.as_deref(), overrides.clone())?;
        let source = self.config.map(|file| boot::Source { file, overrides });
        super::log(self.log_json);
        let runtime =
            tokio::runtime::Builder::new_multi_thread().enable_all().build().context("no async runtime")?;
        let served = runtime.block_on(boot::serve(config, source));
        // Whatever still blocks a thread, such as a download, is not waited for.
        runtime.shutdown_background();
        served
    }
}
