use std::path::PathBuf;

use anyhow::{Context, ensure};
use reprise_engine::{
    DeviceKind,
    memory::{AvailableMemory, predict},
};
use reprise_models::{Presence, Puller};

use crate::boot::{engine_config, puller};
use crate::config::{Config, LocalPlan, Overrides, TierPlan, Weights};

#[derive(Debug, clap::Subcommand)]
pub enum ConfigCommand {
    /// Say whether a configuration holds; secrets must be there.
    Check(File),
    /// Print what is in force, with every default. Secrets are not printed.
    Print(File),
    /// Print every key with its type, default and meaning, as Markdown.
    Reference,
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
                let config = Config::load(file.config.as_deref(), Overrides::default())?;
                memory(&config)?;
                println!("the configuration holds");
            }
            Self::Reference => print!("{}", Config::reference()?),
            Self::Print(file) => print!("{}", Config::print(file.config.as_deref())?),
        }
        Ok(())
    }
}

/// Says what the local tiers' models will take, and refuses what does not fit. A model that is not here yet is not fetched for it.
fn memory(config: &Config) -> anyhow::Result<()> {
    let puller = puller()?;
    let mut all = 0;
    for tier in &config.tiers {
        let TierPlan::Local(plan) = tier else { continue };
        if plan.device != DeviceKind::Cpu && !cfg!(feature = "cuda") {
            println!("tier {}: this binary has no GPU backend, so {} is not for it", plan.name, plan.device);
            continue;
        }
        match file(plan, &puller) {
            Some(gguf) => {
                let estimate = predict(&engine_config(plan, &plan.name, gguf))
                    .with_context(|| format!("the model of the tier {}", plan.name))?;
                // A GPU's memory is its own; the tier looks at it when it loads.
                if plan.device == DeviceKind::Cpu {
                    all += estimate.total() as u64;
                    println!("tier {}: {estimate}", plan.name);
                } else {
                    println!("tier {} on {}: {estimate}", plan.name, plan.device);
                }
            }
            None => println!("tier {}: its model is not here yet, so its memory is not known", plan.name),
        }
    }
    if let Some(available) = AvailableMemory::now().filter(|_| all > 0) {
        let megabytes = |bytes: u64| bytes / 1_000_000;
        let (all, left) = (megabytes(all), megabytes(available.bytes));
        println!("local tiers together: {all} MB; available {}: {left} MB", available.bound);
        ensure!(
            all <= left,
            "the local tiers take {all} MB and {left} MB are available ({})",
            available.bound
        );
    }
    Ok(())
}

fn file(plan: &LocalPlan, puller: &Puller) -> Option<PathBuf> {
    match &plan.weights {
        Weights::Gguf(path) => path.exists().then(|| path.clone()),
        Weights::Manifest(name) => {
            let model = puller.manifest().get(name)?;
            let gguf = model.files.iter().find(|file| file.name.ends_with(".gguf"))?;
            (puller.presence(model) == Presence::Complete).then(|| puller.path(name).join(&gguf.name))
        }
    }
}
