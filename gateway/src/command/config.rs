use std::path::PathBuf;

use crate::config::{Config, Overrides};

#[derive(Debug, clap::Subcommand)]
pub enum ConfigCommand {
    /// Say whether a configuration holds; secrets must be there.
    Check(File),
    /// Print what is in force, with every default. Secrets are not printed.
    Print(File),
}

#[derive(Debug, clap::Args)]
pub struct File {
    /// A TOML file; the embedded default if left out.
    #[arg(long)]
    config: Option<PathBuf>,
}

impl ConfigCommand {
    pub fn run(self) -> anyhow::Result<()> {
        match self {
            Self::Check(file) => {
                Config::load(file.config.as_deref(), Overrides::default())?;
                println!("the configuration holds");
            }
            Self::Print(file) => print!("{}", Config::print(file.config.as_deref())?),
        }
        Ok(())
    }
}
