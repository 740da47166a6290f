//! What a model's own gates choose.

use std::path::Path;

use reprise_expert_parallel::Steered;
use reprise_scheduler::{
    Backend, CoreConfig, Finished, Moment, NewSequence, Pipeline, Priority, ScheduleKind, placement::Loads,
};

use super::{ExpertParallel, ExpertParallelError, machine::Machine};
use crate::{EngineError, gguf::Gguf, text::Vocabulary};

/// Prompts whose gates are counted, and their tokens.
const COUNTED: u64 = 16;
const COUNTED_TOKENS: usize = 64;

/// What the model's own gates choose for some prompts.
pub(super) fn natural_loads<M: Machine>(
    options: &ExpertParallel,
    machine: &M,
) -> Result<Loads, ExpertParallelError> {
    let mut counting = Steered::new(machine.device(options, ScheduleKind::Lockstep, 0)?, None);
    let layout = counting.layout().clone();
    let rows = layout.rows.min(options.ticks().max_rows);
    let config = CoreConfig { max_sequences: 1, prefill_chunk: rows, max_rows: rows };
    let mut pipeline = Pipeline::new(config, &layout)?;
    let inconsistent = |error: &dyn std::fmt::Display| EngineError::Inconsistent(error.to_string());
    let prompts = match &options.text {
        Some(path) => text(options, path)?,
        None => (0..COUNTED)
            .map(|index| options.workload().prompt(index, COUNTED_TOKENS, layout.vocabulary))
            .collect(),
    };
    for (index, mut tokens) in (0..).zip(prompts) {
        tokens.truncate(COUNTED_TOKENS.min(rows));
        let (priority, deadline) = (Priority::Interactive, None);
        let new = NewSequence { tokens, max_new: 1, priority, deadline, scope: index, greedy: false };
        let id = pipeline.start(new).map_err(|error| inconsistent(&error))?;
        let mut out = Finished::default();
        while out.ready().next().is_none() {
            pipeline
                .turn(&mut counting, Moment::default(), &mut out)
                .map_err(|error| inconsistent(&error))?;
        }
        pipeline.end(id);
    }
    // Experts that none of these prompts chose are not free of load.
    let counted = counting.loads();
    Ok(Loads::with(&layout, |at, expert, _| counted.experts(at)[usize::from(expert)] + 1.0))
}

/// The text's tokens, in prompts of the length that is counted.
fn text(options: &ExpertParallel, path: &Path) -> Result<Vec<Vec<u32>>, ExpertParallelError> {
    let error = |source| ExpertParallelError::Text { path: path.to_owned(), source };
    let text = std::fs::read_to_string(path).map_err(error)?;
    let vocabulary = Vocabulary::from_gguf(&Gguf::open(Path::new(&options.model))?)?;
    Ok(vocabulary.encode(&text)?.chunks(COUNTED_TOKENS).map(<[u32]>::to_vec).collect())
}
