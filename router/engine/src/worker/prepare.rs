//! Messages to prompt tokens, on a thread of its own: a prompt of 8,000 tokens takes milliseconds, for which nobody who
//! generates, and no async thread that submits, is to wait. Requests whose answer has a form are prepared on a second one:
//! their grammar may take longer than the others should wait.

use std::panic::{AssertUnwindSafe, catch_unwind};

use reprise_tier::TierError;

use super::{
    Loaded, Shared,
    queue::{Ask, Kind, Prepared},
    text_of,
};
use crate::{EngineError, sampling, text::Conversation};

/// The thread's whole life: until the queue is closed.
pub(crate) fn run(shared: &Shared, loaded: &Loaded, kind: Kind) {
    while let Some(ask) = shared.queue.ask(kind) {
        let outcome = catch_unwind(AssertUnwindSafe(|| prepare(loaded, &ask))).unwrap_or_else(|panic| {
            Err(TierError::Internal { message: format!("tokenising panicked: {}", text_of(&*panic)) })
        });
        shared.queue.prepared(ask.ticket, outcome, &shared.meter);
    }
}

fn prepare(loaded: &Loaded, ask: &Ask) -> Result<Prepared, TierError> {
    let vocabulary = loaded.prompts.vocabulary();
    sampling::check(&ask.sampling, vocabulary.len())?;
    let (form, tools) = (ask.form.as_ref(), ask.tools.as_deref());
    // First: a schema beyond all bounds would make the prompt too long, and that is not the reason to give.
    let mask = loaded.grammars.mask(vocabulary, ask.scope, form, tools)?;
    let tokens = match &ask.text {
        Some(text) => loaded.prompts.text(text).map_err(internal)?,
        None => prompt(loaded, Conversation { messages: &ask.messages, form, tools })?,
    };
    let limit = limit(loaded.info.context_length, tokens.len(), ask.max_tokens)?;
    Ok(Prepared { tokens, limit, mask })
}

fn prompt(loaded: &Loaded, conversation: Conversation<'_>) -> Result<Vec<u32>, TierError> {
    match loaded.prompts.prompt(conversation) {
        Ok(prompt) if prompt.is_empty() => Err(invalid("the conversation is empty".into())),
        Ok(prompt) => Ok(prompt),
        // The template's own words, such as that roles must alternate.
        Err(EngineError::Template(error)) => Err(invalid(error.to_string())),
        Err(error) => Err(internal(error)),
    }
}

#[expect(clippy::needless_pass_by_value, reason = "it maps errors")]
fn internal(error: EngineError) -> TierError {
    TierError::Internal { message: error.to_string() }
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
    TierError::InvalidRequest { param: "messages".into(), message }
}
