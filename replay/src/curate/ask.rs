use tokio_util::sync::CancellationToken;

use super::author::{Author, Written};
use super::{Curation, Stop};
use crate::gateway::admin::{Example, TierInfo};
use crate::gateway::chat::{CacheUse, Caller, Chat, Priority};
use crate::gateway::{Gateway, GatewayError};

/// Answers of the best tier to one request.
#[derive(Debug, Default)]
pub(super) struct Asked {
    /// The one at temperature 0 first, if it was whole.
    pub answers: Vec<Written>,
    pub tokens: u64,
}

/// How asking can end without answers.
#[derive(Debug)]
pub(super) enum AskError {
    Stopped(Stop),
    Failed(GatewayError),
}

/// Asks once at temperature 0 and `samples` times at the curation's temperature, each under its own seed; if the example was replayed before, only
/// at that temperature, and under seeds that were not used yet: the same question would get the same answers again. Without the
/// cache, at batch priority, as the operator, so that neither a tenant's examples nor its budget are touched. Answers
/// that were cut off at the token limit, or empty, are no answers.
pub(super) async fn ask(
    gateway: &Gateway,
    tier: &TierInfo,
    example: &Example,
    curation: &Curation,
    stop: (&CancellationToken, &CancellationToken),
) -> Result<Asked, AskError> {
    let (cancel, lease_lost) = stop;
    let author = Author::tier(tier);
    let mut asked = Asked::default();
    let asks = curation.samples.saturating_add(1);
    let first = example.replays.saturating_mul(asks);
    for sample in first..first.saturating_add(asks) {
        let chat = Chat {
            model: &tier.name,
            prompt: &example.request,
            earlier: &[],
            temperature: if sample == 0 { 0.0 } else { curation.temperature },
            seed: Some(u64::from(sample)),
            max_tokens: curation.max_tokens,
            cache: CacheUse::Off,
            exact_reuse: false,
            priority: Priority::Batch,
            caller: Caller::Admin,
            timeout: curation.request_timeout,
        };
        let answer = tokio::select! {
            () = cancel.cancelled() => return Err(AskError::Stopped(Stop::Interrupted)),
            () = lease_lost.cancelled() => return Err(AskError::Stopped(Stop::LeaseLost)),
            answer = gateway.chat(&chat) => answer.map_err(AskError::Failed)?,
        };
        asked.tokens += answer.tokens();
        let text = answer.text.trim();
        if answer.finish_reason.as_deref() == Some("stop") && !text.is_empty() {
            asked.answers.push(Written { text: text.to_owned(), author: author.clone() });
        }
    }
    Ok(asked)
}
