use std::path::PathBuf;

use anyhow::Context;
use reprise_models::{ConsoleProgress, Progress};
use reprise_upcycle::{Layers, Upcycle, upcycle};

use crate::boot::{gguf, puller};

#[derive(Debug, clap::Args)]
pub struct Upcycling {
    /// A dense model of the manifest, fetched if it is not there, or a GGUF file of the llama architecture.
    #[arg(long)]
    from: String,
    /// The GGUF file to write; an older one is replaced.
    #[arg(long)]
    out: PathBuf,
    /// Layers whose feed-forward becomes experts: `all` (the only form that llama.cpp loads), `every:3` (the third, the
    /// sixth ...) or a list, counted from 0: `0,4,9`.
    #[arg(long)]
    layers: Layers,
    /// Copies in each of these layers, 2 to 512.
    #[arg(long)]
    experts: u16,
    /// Experts that each token goes to.
    #[arg(long)]
    top_k: u16,
    /// Of the random gates.
    #[arg(long, default_value_t = 0)]
    seed: u64,
}

impl Upcycling {
    pub fn run(self) -> anyhow::Result<()> {
        let source = self.source()?;
        let options =
            Upcycle { layers: self.layers, experts: self.experts, top_k: self.top_k, seed: self.seed };
        let (name, progress) = (self.out.display().to_string(), ConsoleProgress::default());
        let mut begun = false;
        let made = upcycle(&source, &self.out, &options, &mut |bytes, all| {
            if !begun {
                progress.begin(&name, 0, all);
                begun = true;
            }
            progress.advance(bytes);
        });
        if begun {
            progress.end();
        }
        let made = made?;
        let layers: Vec<String> = made.layers.iter().map(u32::to_string).collect();
        println!("{name} {} bytes sha256 {}", made.bytes, made.sha256);
        println!(
            "experts are copies in the layers {}: the same function as the dense model",
            layers.join(", ")
        );
        Ok(())
    }

    fn source(&self) -> anyhow::Result<PathBuf> {
        if self.from.ends_with(".gguf") {
            return Ok(PathBuf::from(&self.from));
        }
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().build().context("no async runtime")?;
        runtime.block_on(gguf(&puller()?, &self.from))
    }
}
