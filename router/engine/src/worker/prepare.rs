//! Messages to prompt tokens, on a thread of its own: a prompt of 8,000 tokens takes milliseconds, for which nobody who
//! generates, and no async thread that submits, is to wait.

use std::panic::{AssertUnwindSafe, catch_unwind};

use reprise_tier::{Message, TierError};

use super::{Loaded, Shared, queue::Ask, queue::Prepared, text_of};
use crate::{EngineError, sampling};

/// The thread's whole life: until the queue is closed.
pub(crate) fn run(shared: &Shared, loaded: &Loaded) {
    while let Some(ask) = shared.queue.ask() {
        let outcome = catch_unwind(AssertUnwindSafe(|| prepare(loaded, &ask))).unwrap_or_else(|panic| {
            Err(TierError::Internal { message: format!("tokenising panicked: {}", text_of(&*panic)) })
        });
        shared.queue.prepared(ask.ticket, outcome, &shared.meter);
    }
}

fn prepare(loaded: &Loaded, ask: &Ask) -> Result<Prepared, TierError> {
    sampling::check(&ask.sampling, loaded.prompts.vocabulary().len())?;
    let tokens = prompt(loaded, &ask.messages)?;
    let limit = limit(loaded.info.context_length, tokens.len(), ask.max_tokens)?;
    Ok(Prepared { tokens, limit })
}

fn prompt(loaded: &Loaded, messages: &[Message]) -> Result<Vec<u32>, TierError> {
    match loaded.prompts.prompt(messages) {
        Ok(prompt) if prompt.is_empty() => Err(invalid("the conversation is empty".into())),
        Ok(prompt) => Ok(prompt),
        // The template's own words, such as that roles must alternate.
        Err(EngineError::Template(error)) => Err(invalid(error.to_string())),
        Err(error) => Err(TierError::Internal { message: error.to_string() }),
    }
}

/// The most tokens that may be generated. As OpenAI does: a prompt that leaves no room is an error, and so is
/// an explicit `max_tokens` that does not fit beside the prompt; it is not cut silently.
fn limit(context_length: u32, prompt: usize, wanted: Option<u32>) -> Result<usize, TierError> {
    let room = (context_length as usize).saturating_sub(prompt);
    let needed = wanted.map_or(1, |wanted| wanted as usize);
    if room < needed.max(1) {
        return Err(TierError::ContextExceeded {
            prompt_tokens: super::count(prompt),
            max_tokens: super::count(needed),
            context_length,
        });
    }
    Ok(wanted.map_or(room, |wanted| wanted as usize))
}

fn invalid(message: String) -> TierError {
    TierError::InvalidRequest { param: "messages", message }
}
