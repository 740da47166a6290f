//! Shadow runs: where the router cannot tell its arms apart, the dearest tier answers the same request too, later, at batch
//! priority and within a budget of tokens. How far the two answers agree is what the router learns.
//!
//! Agreement with the top tier is one of DESIGN's judges. The top tier's own answers are not judged by it: a model is no
//! judge of itself.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use reprise_router::{ArmKey, Decision, Experience};
use reprise_tier::{Event, FinishReason, GenerateRequest, Priority, Sampling, TierError};

use super::afterwards::Whole;
use super::directives::Directives;
use super::generate::scope_of;
use super::parse::Ask;
use super::trail::Trail;
use crate::state::AppState;

/// An hour's worth at most is saved up.
const SAVED: f64 = 3600.0;
/// A shadow run that has not ended by then is given up.
const TIME: Duration = Duration::from_secs(120);
/// Tokens of an answer whose length nobody limited.
const MOST_TOKENS: u32 = 512;

/// Tokens that shadow runs may take, filling up evenly over time.
#[derive(Debug)]
pub struct Budget {
    per_second: f64,
    /// Held for a moment.
    state: Mutex<(f64, Instant)>,
}

impl Budget {
    #[must_use]
    pub fn new(tokens_per_hour: u32, now: Instant) -> Self {
        Self { per_second: f64::from(tokens_per_hour) / 3600.0, state: Mutex::new((0.0, now)) }
    }

    /// True, and taken, if so many tokens are there.
    pub fn take(&self, tokens: u32, now: Instant) -> bool {
        let (left, last) = &mut *self.state.lock();
        *left += now.saturating_duration_since(*last).as_secs_f64() * self.per_second;
        *left = left.min(SAVED * self.per_second);
        *last = now.max(*last);
        let enough = self.per_second > 0.0 && *left >= f64::from(tokens);
        if enough {
            *left -= f64::from(tokens);
        }
        enough
    }

    fn is_off(&self) -> bool {
        self.per_second <= 0.0
    }
}

/// What to ask again, should the answer come from a cheaper tier.
#[derive(Debug)]
pub struct Shadow {
    decision: Decision,
    request: GenerateRequest,
    /// About what it takes.
    tokens: u32,
}

impl Shadow {
    /// `None` unless the decision was uncertain and the client allows that its request is learned from.
    pub fn wanted(trail: &Trail, ask: &Ask, directives: &Directives) -> Option<Self> {
        let state = &trail.state;
        let decision = trail.decision().filter(|decision| decision.solicit_preference)?;
        let fit = ask.pinned.is_none()
            && ask.remote_only.is_none()
            && ask.is_plain()
            && ask.sampling.logit_bias.is_empty()
            && directives.read
            && directives.write
            && state.pool.iter().last().is_some_and(|judge| ask.suits(judge.info()));
        if state.shadow.is_off() || !fit {
            return None;
        }
        let max_tokens = ask.max_tokens.unwrap_or(MOST_TOKENS).min(MOST_TOKENS);
        let request = GenerateRequest {
            id: Arc::clone(trail.id()),
            messages: ask.messages.clone(),
            sampling: Sampling { temperature: 0.0, ..Sampling::default() },
            max_tokens: Some(max_tokens),
            stop: ask.stop.clone(),
            priority: Priority::Batch,
            scope: scope_of(&trail.caller.tenant),
            ..GenerateRequest::default()
        };
        Some(Self { decision: decision.clone(), request, tokens: ask.estimated_tokens() + max_tokens })
    }

    /// Runs it and teaches the router, or says why not.
    pub async fn run(self, state: &AppState, answer: &Whole) {
        let result = match self.agreement(state, answer).await {
            Ok(Some(agreement)) => {
                let arm = ArmKey {
                    tier: answer.tier.as_str().into(),
                    model: answer.model.as_str().into(),
                    examples: answer.with_examples,
                };
                let labels = [&*arm.tier, if arm.examples { "true" } else { "false" }, "shadow"];
                state.metrics.answer_quality.with_label_values(&labels).observe(agreement);
                state.router.learn(&Experience { arm, ..self.decision.experience(agreement) });
                "learned"
            }
            Ok(None) => "skipped",
            Err(error) => {
                tracing::debug!(request = %self.request.id, %error, "a shadow run failed");
                "failed"
            }
        };
        state.metrics.shadow_runs.with_label_values(&[result]).inc();
    }

    async fn agreement(&self, state: &AppState, answer: &Whole) -> Result<Option<f64>, TierError> {
        let Some(judge) = state.pool.iter().last() else { return Ok(None) };
        let own = judge.info().name == answer.tier || judge.info().model == answer.model;
        if own || !state.shadow.take(self.tokens, Instant::now()) {
            return Ok(None);
        }
        let request = GenerateRequest { deadline: Some(Instant::now() + TIME), ..self.request.clone() };
        let mut generation = judge.submit(request)?;
        let mut text = String::new();
        while let Some(event) = generation.next().await {
            match event? {
                Event::Delta { text: piece, .. } => text.push_str(&piece),
                Event::Finished(finish) if finish.reason == FinishReason::Stop => {
                    return Ok(Some(overlap(&answer.text, &text)));
                }
                Event::Finished(_) => return Ok(None),
                Event::Started { .. } | Event::ToolCall { .. } => {}
            }
        }
        Ok(None)
    }
}

/// F1 of the words that two answers share, in [0, 1].
fn overlap(a: &str, b: &str) -> f64 {
    let words = |text: &str| -> Vec<String> {
        let split = text.split(|c: char| !c.is_alphanumeric());
        split.filter(|word| !word.is_empty()).map(str::to_lowercase).collect()
    };
    let (a, b) = (words(a), words(b));
    if a.is_empty() || b.is_empty() {
        return f64::from(u8::from(a.is_empty() && b.is_empty()));
    }
    let total = (a.len() + b.len()) as f64;
    let mut counts: HashMap<String, usize> = HashMap::new();
    for word in a {
        *counts.entry(word).or_default() += 1;
    }
    let mut shared = 0;
    for word in b {
        if let Some(count) = counts.get_mut(&word).filter(|count| **count > 0) {
            *count -= 1;
            shared += 1;
        }
    }
    2.0 * f64::from(shared) / total
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_budget_fills_evenly_and_saves_up_an_hour() {
        let begin = Instant::now();
        let after = |seconds| begin + Duration::from_secs(seconds);
        let budget = Budget::new(3600, begin);
        assert!(!budget.take(1, begin));
        assert!(budget.take(10, after(10)) && !budget.take(1, after(10)));
        assert!(!budget.take(3601, after(100_000)) && budget.take(3600, after(100_000)));
        assert!(!Budget::new(0, begin).take(0, after(100_000)), "off is off");
    }

    #[test]
    fn agreement_is_of_words() {
        assert!((overlap("Card_Arrival.", "card arrival") - 1.0).abs() < 1e-9);
        assert!((overlap("a b c", "a d") - 0.4).abs() < 1e-9);
        assert_eq!((overlap("", "x"), overlap("", "")), (0.0, 1.0));
    }
}
