use std::sync::Arc;

use reprise_openai::chat::ChatRequest;
use reprise_openai::completions::{CompletionRequest, Prompt};
use reprise_router::Pool;
use serde_json::{Map, Value};

use super::tell::CompletionDialect;
use crate::chat::{Ask, Read};
use crate::error::ApiError;

/// Each with all its choices is a generation of its own.
const MOST_PROMPTS: usize = 16;
const MOST_LOGPROBS: i64 = 20;
/// What OpenAI has for a request that does not say.
const MAX_TOKENS: i64 = 16;

/// # Errors
/// 400 that names the field, or 404 for a model that is not there.
pub fn read(body: Map<String, Value>, pool: &Pool) -> Result<Read, ApiError> {
    let request = CompletionRequest::from_body(&body)?;
    refuse(&request)?;
    let prompts = prompts(request.prompt.clone())?;
    let logprobs = logprobs(&request)?;
    let echo = request.echo.unwrap_or(false);
    if echo && logprobs.is_some() {
        let message = "Unsupported parameter: 'logprobs' is not supported together with 'echo': the log probabilities \
                       of a prompt's tokens are not computed.";
        return Err(ApiError::unsupported("logprobs", message));
    }
    let max_tokens = request.max_tokens.unwrap_or(MAX_TOKENS);
    if max_tokens < 0 {
        let message = format!("Invalid 'max_tokens': {max_tokens} is less than the minimum of 0.");
        return Err(ApiError::invalid("max_tokens", message));
    }
    let common = ChatRequest {
        model: request.model,
        stream: request.stream,
        stream_options: request.stream_options,
        temperature: request.temperature,
        top_p: request.top_p,
        seed: request.seed,
        stop: request.stop,
        n: request.n,
        frequency_penalty: request.frequency_penalty,
        presence_penalty: request.presence_penalty,
        logit_bias: request.logit_bias,
        logprobs: logprobs.map(|_| true),
        top_logprobs: logprobs,
        top_k: request.top_k,
        min_p: request.min_p,
        repetition_penalty: request.repetition_penalty,
        extra: request.extra,
        ..ChatRequest::default()
    };
    let prompts: Arc<[String]> = prompts.into();
    let mut ask = Ask::completion(&common, Arc::clone(&prompts), body, pool)?;
    ask.max_tokens = Some(u32::try_from(max_tokens).unwrap_or(u32::MAX));
    let dialect = CompletionDialect {
        echo: echo.then_some(prompts),
        each: ask.choices,
        include_usage: ask.include_usage,
        logprobs: logprobs.is_some(),
    };
    Ok((ask, Box::new(dialect)))
}

fn refuse(request: &CompletionRequest) -> Result<(), ApiError> {
    let unsupported = |field: &str, why: &str| {
        Err(ApiError::unsupported(
            field,
            format!("Unsupported parameter: '{field}' is not supported: {why}."),
        ))
    };
    if request.suffix.as_ref().is_some_and(|suffix| !suffix.is_empty()) {
        return unsupported("suffix", "no model here fills in the middle of a text");
    }
    if request.best_of.is_some_and(|best_of| best_of != request.n.unwrap_or(1)) {
        return unsupported("best_of", "all choices that are generated are told; ask for them with 'n'");
    }
    Ok(())
}

fn prompts(prompt: Option<Prompt>) -> Result<Vec<String>, ApiError> {
    let prompts = match prompt {
        None => vec![String::new()],
        Some(Prompt::One(prompt)) => vec![prompt],
        Some(Prompt::Many(prompts)) => prompts,
        Some(Prompt::Tokens(_) | Prompt::ManyTokens(_)) => {
            let message = "Unsupported 'prompt': ids of tokens are one model's own; send text.";
            return Err(ApiError::unsupported("prompt", message));
        }
    };
    if prompts.is_empty() || prompts.len() > MOST_PROMPTS {
        return Err(ApiError::invalid("prompt", format!("'prompt' must hold 1 to {MOST_PROMPTS} texts.")));
    }
    Ok(prompts)
}

fn logprobs(request: &CompletionRequest) -> Result<Option<i64>, ApiError> {
    match request.logprobs {
        Some(count) if !(0..=MOST_LOGPROBS).contains(&count) => {
            let message = format!("Invalid 'logprobs': {count} is not between 0 and {MOST_LOGPROBS}.");
            Err(ApiError::invalid("logprobs", message))
        }
        count => Ok(count),
    }
}
