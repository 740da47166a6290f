use std::num::NonZeroUsize;
use std::path::PathBuf;

use anyhow::Context;
use reprise_engine::{DeviceKind, LocalConfig, bench_engine};

use crate::boot::{gguf, puller};

#[derive(Debug, clap::Args)]
pub struct Engine {
    /// A model of the manifest, fetched if it is not there, a GGUF file, a folder of safetensors, or random weights in a known shape:
    /// `random:olmoe-1b-7b`, `random:qwen3-30b-a3b`.
    #[arg(long)]
    model: String,
    /// All cores if left out.
    #[arg(long)]
    threads: Option<NonZeroUsize>,
    /// `cpu` or `cuda:N`.
    #[arg(long, default_value = "cpu")]
    device: DeviceKind,
    /// Sequences at once.
    #[arg(long, default_value_t = NonZeroUsize::MIN)]
    batch: NonZeroUsize,
    /// Tokens of each prompt.
    #[arg(long, default_value_t = 256)]
    prompt: usize,
    /// Tokens to generate.
    #[arg(long, default_value_t = 64)]
    generate: usize,
    /// Passes, of whose speeds the medians are reported.
    #[arg(long, default_value_t = NonZeroUsize::MIN)]
    repeats: NonZeroUsize,
    /// The most prompt tokens computed at once; what suits the device if left out.
    #[arg(long)]
    prefill_chunk: Option<NonZeroUsize>,
    /// One JSON object on standard output; there is no other form.
    #[arg(long = "json")]
    _json: bool,
}

impl Engine {
    pub fn run(self) -> anyhow::Result<()> {
        anyhow::ensure!(self.prompt > 0 && self.generate > 0, "--prompt and --generate must be at least 1");
        let config = LocalConfig {
            name: "bench".to_owned(),
            gguf: self.file()?,
            model_id: self.model,
            threads: self.threads,
            queue_capacity: NonZeroUsize::MIN,
            cost: 1.0,
            device: self.device,
            context_length: None,
            max_sequences: self.batch,
            kv_tokens: None,
            prefill_chunk: self
                .prefill_chunk
                .unwrap_or_else(|| LocalConfig::default_prefill_chunk(self.device)),
            spread: None,
        };
        let report = bench_engine(&config, self.prompt, self.generate, self.repeats)?;
        println!("{}", serde_json::to_string(&report)?);
        Ok(())
    }

    fn file(&self) -> anyhow::Result<PathBuf> {
        // Random weights come from no file.
        if self.model.ends_with(".gguf") || self.model.starts_with("random:") || self.model.contains('/') {
            return Ok(PathBuf::from(&self.model));
        }
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().build().context("no async runtime")?;
        runtime.block_on(gguf(&puller()?, &self.model))
    }
}
