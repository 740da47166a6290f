//! The answer as one JSON body. Nothing is sent before it is whole, so that a tier that breaks off can be replaced.

use reprise_openai::chat::{AnswerMessage, ChatCompletion, Choice};
use reprise_tier::{Finish, TierError, TokenLogprob, ToolCalls};

use super::afterwards::{Lesson, Whole};
use super::answer::{Head, joined, logprobs_of, reason_text, told, usage_of};
use super::generate::{Attempts, Running, Step, What};
use super::parse::Ask;
use super::trail::Trail;
use crate::error::{ApiError, tier_error_label};

/// A choice, as far as it has come.
#[derive(Debug, Clone, Default)]
struct Written {
    text: String,
    logprobs: Vec<TokenLogprob>,
    calls: ToolCalls,
    finish: Option<Finish>,
}

/// # Errors
/// No tier gave a whole answer.
pub async fn answer(
    trail: &mut Trail,
    ask: &Ask,
    attempts: &mut Attempts<'_>,
    mut lesson: Lesson,
) -> Result<(ChatCompletion, Finish), ApiError> {
    loop {
        let mut running = attempts.start(trail).await?;
        trail.wait_begins();
        let collected = collect(&mut running).await;
        trail.wait_ends();
        match collected {
            Ok((choices, finish)) => {
                let info = running.tier.info();
                let whole = Whole {
                    text: choices.first().map(|choice| choice.text.clone()).unwrap_or_default(),
                    finish_reason: reason_text(finish.reason),
                    usage: usage_of(&finish),
                    tier: info.name.clone(),
                    model: info.model.clone(),
                    with_examples: trail.facts().examples > 0,
                };
                lesson.store(&whole).await;
                let asked = ask.sampling.logprobs.is_some();
                let Head { id, created, model } = Head::new(trail.created_second(), whole.model.as_str());
                let choices =
                    (0..).zip(choices).map(|(index, written)| choice(index, written, asked)).collect();
                let completion = ChatCompletion::new(id, created, model, choices, whole.usage);
                lesson.learn(whole);
                return Ok((completion, finish));
            }
            Err(error) => {
                tracing::warn!(request = %trail.id(), kind = tier_error_label(&error), "an answer broke off");
                if !attempts.broke_off(trail, &running, &error) {
                    return Err(ApiError::from(&error));
                }
            }
        }
    }
}

/// All choices to their ends, and these as one.
async fn collect(running: &mut Running) -> Result<(Vec<Written>, Finish), TierError> {
    let mut choices = vec![Written::default(); running.choices()];
    while choices.iter().any(|choice| choice.finish.is_none()) {
        let Step { choice, what } = running.step().await?;
        let Some(choice) = choices.get_mut(choice) else { continue };
        match what {
            What::Piece { text, logprobs } => {
                choice.text.push_str(&text);
                choice.logprobs.extend(logprobs);
            }
            What::ToolCall { index, piece } => choice
                .calls
                .add(index, piece)
                .map_err(|error| TierError::Internal { message: error.to_string() })?,
            What::End(finish) => choice.finish = Some(finish),
        }
    }
    let finishes: Vec<Finish> = choices.iter().filter_map(|choice| choice.finish.clone()).collect();
    let finish = joined(&finishes);
    let finish =
        finish.ok_or_else(|| TierError::Internal { message: "no choice was generated".to_owned() })?;
    Ok((choices, finish))
}

fn choice(index: u32, written: Written, with_logprobs: bool) -> Choice {
    let Written { text, logprobs, calls, finish } = written;
    let logprobs = logprobs_of(with_logprobs, &text, told(logprobs));
    let tool_calls = calls.into_value();
    // A turn that only calls tools has no content.
    let content = Some(text).filter(|text| tool_calls.is_none() || !text.is_empty());
    let message = AnswerMessage { role: "assistant".into(), content, refusal: None, tool_calls };
    let finish_reason = finish.map(|finish| reason_text(finish.reason).to_owned());
    Choice { index, message, logprobs, finish_reason }
}
