mod engine;
mod retrieval;

#[derive(Debug, clap::Subcommand)]
pub enum Bench {
    /// Prefill and decode speed of a model, as one JSON object.
    Engine(engine::Engine),
    /// Search time and recall of the example index over synthetic clusters, as one JSON object.
    Retrieval(retrieval::Retrieval),
}

impl Bench {
    pub fn run(self) -> anyhow::Result<()> {
        match self {
            Self::Engine(engine) => engine.run(),
            Self::Retrieval(retrieval) => retrieval.run(),
        }
    }
}
