mod engine;
mod expert_parallel;
mod retrieval;

#[derive(Debug, clap::Subcommand)]
pub enum Bench {
    /// Prefill and decode speed of a model, as one JSON object.
    Engine(engine::Engine),
    /// Schedules of a mixture of experts over several devices side by side, as one JSON object.
    ExpertParallel(Box<expert_parallel::ExpertParallelArgs>),
    /// Search time and recall of the example index over random directions, as one JSON object.
    Retrieval(retrieval::Retrieval),
}

impl Bench {
    pub fn run(self) -> anyhow::Result<()> {
        match self {
            Self::Engine(engine) => engine.run(),
            Self::ExpertParallel(args) => args.run(),
            Self::Retrieval(retrieval) => retrieval.run(),
        }
    }
}
