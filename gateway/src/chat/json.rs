//! The answer as one JSON body. Nothing is sent before it is whole, so that a tier that breaks off can be replaced.

use reprise_openai::chat::ChatCompletion;

use super::afterwards::{Lesson, Whole};
use super::answer::{Head, reason_text, usage_of};
use super::generate::{Attempts, Running, Step};
use super::trail::Trail;
use crate::error::{ApiError, tier_error_label};
use reprise_tier::{Finish, TierError};

/// # Errors
/// No tier gave a whole answer.
pub async fn answer(
    trail: &mut Trail,
    attempts: &mut Attempts<'_>,
    mut lesson: Lesson,
) -> Result<(ChatCompletion, Finish), ApiError> {
    loop {
        let mut running = attempts.start(trail).await?;
        trail.wait_begins();
        let collected = collect(&mut running).await;
        trail.wait_ends();
        match collected {
            Ok((text, finish)) => {
                let info = running.tier.info();
                let whole = Whole {
                    text,
                    finish_reason: reason_text(finish.reason),
                    usage: usage_of(&finish),
                    tier: info.name.clone(),
                    model: info.model.clone(),
                    with_examples: trail.facts().examples > 0,
                };
                lesson.store(&whole).await;
                let completion = completion(trail, &whole, &finish);
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

async fn collect(running: &mut Running) -> Result<(String, Finish), TierError> {
    let mut text = String::new();
    loop {
        match running.step().await? {
            Step::Text(piece) => text.push_str(&piece),
            Step::End(finish) => return Ok((text, finish)),
        }
    }
}

fn completion(trail: &Trail, whole: &Whole, finish: &Finish) -> ChatCompletion {
    let Head { id, created, model } = Head::new(trail.created_second(), whole.model.as_str());
    let mut completion =
        ChatCompletion::answer(id, created, model, whole.text.clone(), whole.finish_reason, whole.usage);
    if let (Some(choice), Some(calls)) = (completion.choices.first_mut(), &finish.tool_calls) {
        choice.message.tool_calls = Some(calls.clone());
        // A turn that only calls tools has no content.
        choice.message.content = choice.message.content.take().filter(|text| !text.is_empty());
    }
    completion
}
