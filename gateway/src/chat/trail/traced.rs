//! What a trail notes for a collector, where its request is recorded.

use std::sync::Arc;

use reprise_tier::TierInfo;
use serde_json::Value;

use super::super::parse::Ask;
use super::Trail;
use crate::telemetry::{Asked, Later};

impl Trail {
    /// What is asked: numbers and names.
    pub fn asked(&mut self, ask: &Ask) {
        let Some(trace) = &mut self.trace else { return };
        let model = ask.body.get("model").and_then(Value::as_str);
        trace.asked(Asked {
            model: model.unwrap_or_default().to_owned(),
            max_tokens: ask.max_tokens,
            temperature: ask.sampling.temperature,
            top_p: ask.sampling.top_p,
            choices: ask.choices,
            stream: ask.stream,
        });
    }

    /// This tier is asked from now on.
    pub fn attempt(&mut self, tier: &TierInfo) {
        if let Some(trace) = &mut self.trace {
            trace.attempt(tier);
        }
    }

    /// It did not answer.
    pub fn attempt_failed(&mut self, kind: &str, message: &str) {
        if let Some(trace) = &mut self.trace {
            trace.attempt_failed(kind, message);
        }
    }

    /// W3C `traceparent` for who works for this request; the client's own where nothing is recorded.
    #[must_use]
    pub fn traceparent(&self) -> Option<Arc<str>> {
        let below = self.trace.as_ref().map(|trace| trace.below());
        let context = below.or_else(|| self.info.place.map(|place| place.own))?;
        Some(context.to_string().into())
    }

    /// For what comes after the answer.
    #[must_use]
    pub fn later(&self) -> Option<Later> {
        self.trace.as_ref().map(|trace| trace.later())
    }
}
