use std::time::Duration;

use tracing::{debug, warn};

use super::row::Asked;
use crate::data::requests::Request;
use crate::gateway::Gateway;
use crate::gateway::chat::{CacheUse, Caller, Chat, Priority};
use crate::score::NumberRule;

/// How every request of a run is asked.
#[derive(Debug, Clone)]
pub struct Asking {
    pub max_tokens: u32,
    pub cache: CacheUse,
    /// False: an answer to the very same request is never served again, so that a second pass measures the policy.
    pub exact_reuse: bool,
    /// Rates each answer with its task score, which is what lets a learning policy learn between passes.
    pub feedback: bool,
    pub timeout: Duration,
}

/// Asks once, scores, and rates if wanted. Errors become rows: a run does not end with one failed request.
pub(super) async fn ask(gateway: &Gateway, request: Request, asking: &Asking, lateness: Duration) -> Asked {
    let chat = Chat {
        model: "auto",
        prompt: &request.prompt,
        earlier: &[],
        temperature: 0.0,
        seed: None,
        max_tokens: asking.max_tokens,
        cache: asking.cache,
        exact_reuse: asking.exact_reuse,
        priority: Priority::Interactive,
        caller: Caller::Tenant,
        timeout: asking.timeout,
    };
    let answer = gateway.chat_streamed(&chat).await;
    let score = answer.as_ref().ok().and_then(|answer| {
        request.metric.score(&answer.text, &request.references, NumberRule::for_source(&request.source))
    });
    let mut example_tokens = None;
    if let Ok(answer) = &answer
        && let Some(id) = &answer.request_id
    {
        if let (true, Some(score)) = (asking.feedback, score)
            && let Err(cause) = gateway.rate(id, score).await
        {
            warn!(request = id, %cause, "the rating was not taken");
        }
        if answer.examples.unwrap_or(0) > 0 {
            example_tokens = examples_cost(gateway, id).await;
        }
    }
    Asked { request, answer, score, example_tokens, lateness }
}

/// Tokens of the examples in the prompt. The gateway files its decision off the answer's path, so it may come a
/// moment later; without it the column stays empty.
async fn examples_cost(gateway: &Gateway, request_id: &str) -> Option<u32> {
    for wait_ms in [0, 50, 250] {
        tokio::time::sleep(Duration::from_millis(wait_ms)).await;
        match gateway.decision(request_id).await {
            Ok(record) => return Some(record.examples.iter().map(|example| example.tokens).sum()),
            Err(cause) => debug!(request = request_id, %cause, "no decision on record"),
        }
    }
    None
}
