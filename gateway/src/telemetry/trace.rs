//! One request as spans: its own, one for each stage, one for each tier that was asked, and in that the tier's queue,
//! prefill and decode. Names follow OpenTelemetry's conventions for generative AI where there are any.

use std::time::{Duration, Instant};

use jiff::Timestamp;
use opentelemetry_proto::tonic::common::v1::KeyValue;
use rand::rng;
use reprise_tier::TierInfo;

use super::context::Context;
use super::span::{Clock, Parts, Span, SpanKind, flag, number, real, span, text, texts};
use super::{Place, Telemetry};
use crate::decisions::DecisionRecord;

/// What of a request is told.
#[derive(Debug, Clone)]
pub struct Asked {
    /// As the client named it.
    pub model: String,
    pub max_tokens: Option<u32>,
    pub temperature: f32,
    pub top_p: f32,
    pub choices: u32,
    pub stream: bool,
}

/// How it ended.
#[derive(Debug, Clone, Copy)]
pub struct Ended<'a> {
    pub record: &'a DecisionRecord,
    pub took: Duration,
}

/// What a recorded request did, noted as it goes.
#[derive(Debug)]
pub struct Trace {
    telemetry: Telemetry,
    place: Place,
    clock: Clock,
    operation: &'static str,
    asked: Option<Asked>,
    /// Of what has ended.
    spans: Vec<Span>,
    attempt: Option<Attempt>,
}

/// A tier that is being asked.
#[derive(Debug)]
struct Attempt {
    own: Context,
    tier: TierInfo,
    begun: Instant,
}

/// What comes after the answer, in the same trace.
#[derive(Debug, Clone)]
pub struct Later {
    telemetry: Telemetry,
    place: Place,
    clock: Clock,
}

impl Trace {
    #[must_use]
    pub fn new(telemetry: Telemetry, place: Place, endpoint: &str, begun: Instant, at: Timestamp) -> Self {
        let operation = if endpoint == "completions" { "text_completion" } else { "chat" };
        let clock = Clock { begun, at };
        Self { telemetry, place, clock, operation, asked: None, spans: Vec::with_capacity(12), attempt: None }
    }

    pub fn asked(&mut self, asked: Asked) {
        self.asked = Some(asked);
    }

    pub fn stage(&mut self, name: &str, begun: Instant, took: Duration) {
        self.spans.push(self.inner(name).during(self.clock, begun, took));
    }

    /// A tier is asked from now on.
    pub fn attempt(&mut self, tier: &TierInfo) {
        let own = self.place.own.child(&mut rng());
        self.attempt = Some(Attempt { own, tier: tier.clone(), begun: Instant::now() });
    }

    /// It did not answer, for this reason.
    pub fn attempt_failed(&mut self, kind: &str, message: &str) {
        let Some(attempt) = self.attempt.take() else { return };
        let failed = self.attempted(&attempt, Instant::now()).failed(kind, message);
        self.spans.push(failed);
    }

    /// Where the tier's work stands: what an upstream is told.
    #[must_use]
    pub fn below(&self) -> Context {
        self.attempt.as_ref().map_or(self.place.own, |attempt| attempt.own)
    }

    #[must_use]
    pub fn later(&self) -> Later {
        Later { telemetry: self.telemetry.clone(), place: self.place, clock: self.clock }
    }

    pub fn end(mut self, ended: Ended<'_>) {
        let over = self.clock.begun + ended.took;
        let usage = usage(ended.record);
        if let Some(attempt) = self.attempt.take() {
            let mut attempted = self.attempted(&attempt, over).with(usage.clone());
            if let Some(error) = &ended.record.error {
                attempted = attempted.failed(&ended.record.status.to_string(), error);
            }
            self.spans.push(attempted);
            self.tiers_part(&attempt, ended.record);
        }
        let asked = self.asked.take();
        let model = asked.as_ref().map_or("", |asked| &*asked.model);
        let name = format!("{} {model}", self.operation);
        let own = span(self.place.own, self.place.parent, name.trim_end().to_owned(), SpanKind::Server)
            .during(self.clock, self.clock.begun, ended.took)
            .with(self.general())
            .with(asked.iter().flat_map(requested))
            .with(usage)
            .with(answered(ended.record));
        self.spans.push(match &ended.record.error {
            Some(error) => own.failed(&ended.record.status.to_string(), error),
            None => own,
        });
        self.telemetry.send(self.spans);
    }

    fn inner(&self, name: &str) -> Span {
        span(self.place.own.child(&mut rng()), Some(self.place.own.span), name.to_owned(), SpanKind::Internal)
    }

    fn attempted(&self, attempt: &Attempt, over: Instant) -> Span {
        let Attempt { own, tier, begun } = attempt;
        let kind = if tier.remote { SpanKind::Client } else { SpanKind::Internal };
        let name = format!("{} {}", self.operation, tier.model);
        span(*own, Some(self.place.own.span), name, kind)
            .during(self.clock, *begun, over.saturating_duration_since(*begun))
            .with(self.general())
            .with([text("gen_ai.request.model", &tier.model), text("reprise.tier", &tier.name)])
    }

    /// What the tier says it did, one after the other.
    fn tiers_part(&mut self, attempt: &Attempt, record: &DecisionRecord) {
        let timings = &record.timings;
        let mut begun = attempt.begun;
        let parts =
            [("queue", timings.queued_ms), ("prefill", timings.prefill_ms), ("decode", timings.decode_ms)];
        for (name, took) in parts {
            let Some(took) = took.and_then(|took| Duration::try_from_secs_f64(took / 1e3).ok()) else {
                continue;
            };
            let own = attempt.own.child(&mut rng());
            let part = span(own, Some(attempt.own.span), name.to_owned(), SpanKind::Internal);
            self.spans.push(part.during(self.clock, begun, took));
            begun += took;
        }
    }

    fn general(&self) -> [KeyValue; 2] {
        [text("gen_ai.operation.name", self.operation), text("gen_ai.provider.name", "reprise")]
    }
}

impl Later {
    /// The answer was offered to the cache.
    pub fn admitted(&self, begun: Instant, took: Duration, result: &str) {
        let own = self.place.own.child(&mut rng());
        let admitted = span(own, Some(self.place.own.span), "admit".to_owned(), SpanKind::Internal)
            .during(self.clock, begun, took)
            .with([text("reprise.admission", result)]);
        self.telemetry.send(vec![admitted]);
    }
}

fn requested(asked: &Asked) -> Vec<KeyValue> {
    let mut attributes = vec![
        text("gen_ai.request.model", &asked.model),
        real("gen_ai.request.temperature", f64::from(asked.temperature)),
        real("gen_ai.request.top_p", f64::from(asked.top_p)),
        flag("reprise.stream", asked.stream),
    ];
    attributes.extend(asked.max_tokens.map(|most| number("gen_ai.request.max_tokens", most)));
    if asked.choices != 1 {
        attributes.push(number("gen_ai.request.choice.count", asked.choices));
    }
    attributes
}

fn usage(record: &DecisionRecord) -> Vec<KeyValue> {
    let mut attributes = Vec::new();
    if let Some(usage) = &record.usage {
        attributes.push(number("gen_ai.usage.input_tokens", usage.prompt_tokens));
        attributes.push(number("gen_ai.usage.output_tokens", usage.completion_tokens));
    }
    attributes.extend(record.finish_reason.map(|reason| texts("gen_ai.response.finish_reasons", &[reason])));
    attributes.extend(record.model.as_deref().map(|model| text("gen_ai.response.model", model)));
    attributes
}

fn answered(record: &DecisionRecord) -> Vec<KeyValue> {
    let mut attributes = vec![
        text("reprise.request_id", &record.request_id),
        text("reprise.cache", record.cache.as_str()),
        number("reprise.examples", i64::try_from(record.examples.len()).unwrap_or(i64::MAX)),
        number("http.response.status_code", i64::from(record.status)),
        flag("reprise.straight", record.straight),
    ];
    attributes.extend(record.tier.as_deref().map(|tier| text("reprise.tier", tier)));
    attributes.extend(record.similarity.map(|similarity| real("reprise.similarity", f64::from(similarity))));
    attributes
        .extend(record.decision.as_ref().map(|decision| text("reprise.policy", decision.policy.as_str())));
    attributes.extend(record.timings.ttft_ms.map(|ttft| real("reprise.time_to_first_token_ms", ttft)));
    attributes
}
