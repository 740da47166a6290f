use reprise_cache::{BenchConfig, bench_retrieval};

#[derive(Debug, clap::Args)]
pub struct Retrieval {
    /// Vectors in the index.
    #[arg(long, default_value_t = 20_000)]
    n: usize,
    /// Searches, exact and by clusters in turns.
    #[arg(long, default_value_t = 200)]
    queries: usize,
    /// One JSON object on standard output; there is no other form.
    #[arg(long = "json")]
    _json: bool,
}

impl Retrieval {
    pub fn run(self) -> anyhow::Result<()> {
        anyhow::ensure!(self.n > 0 && self.queries > 0, "--n and --queries must be at least 1");
        let report =
            bench_retrieval(self.n, &BenchConfig { queries: self.queries, ..BenchConfig::default() });
        println!("{}", serde_json::to_string(&report)?);
        Ok(())
    }
}
