use reprise_cache::{BenchConfig, bench_retrieval};

#[derive(Debug, clap::Args)]
pub struct Retrieval {
    /// Vectors in the index.
    #[arg(long, default_value_t = 20_000)]
    n: usize,
    /// Neighbours asked for.
    #[arg(long, default_value_t = 10)]
    k: usize,
    /// Searches that are timed.
    #[arg(long, default_value_t = 200)]
    queries: usize,
    /// One JSON object on standard output; there is no other form.
    #[arg(long = "json")]
    _json: bool,
}

impl Retrieval {
    pub fn run(self) -> anyhow::Result<()> {
        anyhow::ensure!(
            self.n > 0 && self.k > 0 && self.queries > 0,
            "--n, --k and --queries must be at least 1"
        );
        let config = BenchConfig { k: self.k, queries: self.queries, ..BenchConfig::default() };
        println!("{}", serde_json::to_string(&bench_retrieval(self.n, &config))?);
        Ok(())
    }
}
