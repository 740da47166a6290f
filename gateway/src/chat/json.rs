//! The answer as one body. Nothing is sent before it is whole, so that a tier that breaks off can be replaced.

use bytes::Bytes;
use reprise_tier::{Finish, TierError};

use super::afterwards::{Lesson, Whole};
use super::answer::{joined, reason_text, usage_of};
use super::dialect::{Dialect, Written};
use super::generate::Attempts;
use super::parse::Ask;
use super::running::{Running, Step, What};
use super::trail::Trail;
use crate::error::{ApiError, tier_error_label};

/// # Errors
/// No tier gave a whole answer.
pub async fn answer(
    trail: &mut Trail,
    ask: &Ask,
    dialect: &dyn Dialect,
    attempts: &mut Attempts<'_>,
    mut lesson: Lesson,
) -> Result<(Bytes, Finish), ApiError> {
    loop {
        let mut running = attempts.start(trail).await?;
        trail.wait_begins();
        let collected = collect(&mut running, ask.choices).await;
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
                trail.charge.answered(&whole.tier, whole.usage);
                trail.charge.recorded().await?;
                lesson.store(&whole).await;
                let head = dialect.head(trail.created_second(), &whole.model);
                let body = dialect.whole(head, choices, whole.usage).map_err(|error| {
                    tracing::error!(%error, "an answer cannot be written");
                    ApiError::internal()
                })?;
                lesson.learn(whole);
                return Ok((body, finish));
            }
            Err(error) => {
                trail.attempt_failed(tier_error_label(&error), &error.to_string());
                tracing::warn!(request = %trail.id(), kind = tier_error_label(&error), "an answer broke off");
                if !attempts.broke_off(trail, &running, &error) {
                    return Err(ApiError::from(&error));
                }
            }
        }
    }
}

/// All choices to their ends, and these as one. `each`: choices of one prompt.
async fn collect(running: &mut Running, each: u32) -> Result<(Vec<Written>, Finish), TierError> {
    let internal = |message: String| TierError::Internal { message };
    let mut choices = vec![Written::default(); running.choices()];
    let mut finishes = vec![None; running.choices()];
    while finishes.iter().any(Option::is_none) {
        let Step { choice, what } = running.step().await?;
        let (Some(written), Some(finish)) = (choices.get_mut(choice), finishes.get_mut(choice)) else {
            continue;
        };
        match what {
            What::Piece { text, logprobs } => {
                written.text.push_str(&text);
                written.logprobs.extend(logprobs);
            }
            What::ToolCall { index, piece } => {
                written.calls.add(index, piece).map_err(|error| internal(error.to_string()))?;
            }
            What::End(end) => {
                written.reason = reason_text(end.reason);
                *finish = Some(end);
            }
        }
    }
    let finishes: Vec<Finish> = finishes.into_iter().flatten().collect();
    let finish = joined(&finishes, each).ok_or_else(|| internal("no choice was generated".to_owned()))?;
    Ok((choices, finish))
}
