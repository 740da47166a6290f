use std::path::PathBuf;

use anyhow::Context;
use reprise_models::{Integrity, Presence};

use super::upcycle::Upcycling;
use crate::boot::puller;
use crate::config::{Config, Overrides, TierPlan, Weights};

#[derive(Debug, clap::Subcommand)]
pub enum Models {
    /// Fetch models, those of the configuration if none is named.
    Pull {
        #[arg(value_name = "NAME")]
        names: Vec<String>,
        /// Whose models are meant if none is named.
        #[arg(long)]
        config: Option<PathBuf>,
    },
    /// List the models that are known by name.
    List,
    /// Make a mixture-of-experts copy of a dense llama model that computes the same function: its experts are copies.
    Upcycle(Upcycling),
    /// Hash the files of models against the manifest, of those that are here if none is named.
    Verify {
        #[arg(value_name = "NAME")]
        names: Vec<String>,
    },
}

impl Models {
    pub fn run(self) -> anyhow::Result<()> {
        match self {
            Self::List => list(),
            Self::Upcycle(upcycling) => upcycling.run(),
            Self::Verify { names } => verify(names),
            Self::Pull { names, config } if names.is_empty() => {
                pull(&wanted(&Config::load(config.as_deref(), Overrides::default())?))
            }
            Self::Pull { names, .. } => pull(&names),
        }
    }
}

fn list() -> anyhow::Result<()> {
    let puller = puller()?;
    for model in &puller.manifest().models {
        let here = match puller.presence(model) {
            Presence::Complete => "here",
            Presence::Partial => "partly here",
            Presence::Absent => "not here",
        };
        let megabytes = model.bytes().div_ceil(1_000_000);
        println!(
            "{:<38} {megabytes:>6} MB  {:<12} {here:<12} {}",
            model.name, model.licence, model.description
        );
    }
    Ok(())
}

fn pull(names: &[String]) -> anyhow::Result<()> {
    let puller = puller()?;
    let runtime = runtime()?;
    for name in names {
        let folder = runtime.block_on(puller.pull(name))?;
        println!("{name} {}", folder.display());
    }
    Ok(())
}

fn verify(mut names: Vec<String>) -> anyhow::Result<()> {
    let puller = puller()?;
    if names.is_empty() {
        let here = puller.manifest().models.iter().filter(|model| puller.presence(model) != Presence::Absent);
        names = here.map(|model| model.name.clone()).collect();
    }
    let runtime = runtime()?;
    let mut bad = 0;
    for name in names {
        for (file, integrity) in runtime.block_on(puller.verify(&name))? {
            let said = match &integrity {
                Integrity::Intact => "intact".to_owned(),
                Integrity::Missing => "missing".to_owned(),
                Integrity::Damaged { sha256 } => format!("damaged: its sha256 is {sha256}"),
            };
            bad += usize::from(integrity != Integrity::Intact);
            println!("{name}/{file} {said}");
        }
    }
    anyhow::ensure!(
        bad == 0,
        "{bad} files are not as the manifest says; `reprise models pull` fetches them again"
    );
    Ok(())
}

fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build().context("no async runtime")
}

/// Every model of the manifest that this configuration uses.
fn wanted(config: &Config) -> Vec<String> {
    let tiers = config.tiers.iter().filter_map(|tier| match tier {
        TierPlan::Local(plan) => match &plan.weights {
            Weights::Manifest(name) => Some(name.clone()),
            Weights::Gguf(_) => None,
        },
        TierPlan::Remote(_) => None,
    });
    tiers.chain(config.cache.enabled.then(|| config.embedder.model.clone())).collect()
}
