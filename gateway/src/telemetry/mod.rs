//! Traces for an OpenTelemetry collector, off unless `telemetry.otlp_endpoint` is set.
//!
//! A request notes what it did while it runs ([`Trace`]) and makes its spans when it has ended; they go through a bounded
//! queue to a task that sends them ([`export`]). What does not fit is dropped and counted: no request ever waits for it.
//! Spans carry numbers and names, never what was asked or answered.
//!
//! The messages are OpenTelemetry's own (`opentelemetry-proto`), sent with the client that is here anyway; its SDK would bring
//! a second HTTP client and threads of its own.

mod context;
mod export;
mod span;
mod trace;

use http::HeaderMap;
use rand::Rng;
use tokio::sync::mpsc;

pub use context::{Context, TRACEPARENT};
pub use trace::{Asked, Ended, Later, Trace};

use crate::config::TelemetryPlan;
use crate::metrics::Metrics;
use export::Message;
use span::Span;

/// The way from requests to the collector.
#[derive(Debug, Clone, Default)]
pub struct Telemetry(Option<On>);

#[derive(Debug, Clone)]
struct On {
    queue: mpsc::Sender<Message>,
    sample_share: f64,
    dropped: prometheus::IntCounter,
}

/// Where a request stands.
#[derive(Debug, Clone, Copy)]
pub struct Place {
    /// The request's own span; what its client sent where nothing is recorded.
    pub own: Context,
    pub parent: Option<context::SpanId>,
    pub recorded: bool,
}

impl Telemetry {
    /// Starts the task that sends. Needs the async runtime.
    #[must_use]
    pub fn start(plan: Option<&TelemetryPlan>, metrics: &Metrics) -> Self {
        let Some(plan) = plan else { return Self::default() };
        let (queue, messages) = mpsc::channel(plan.queue);
        let exporter = export::Exporter::new(plan, metrics);
        tokio::spawn(exporter.run(messages));
        let dropped = metrics.spans_dropped.with_label_values(&["queue"]);
        Self(Some(On { queue, sample_share: plan.sample_share, dropped }))
    }

    /// Where the request with these headers stands; `None` if there is nothing to pass on or to record.
    #[must_use]
    pub fn place(&self, headers: &HeaderMap) -> Option<Place> {
        let sent = headers.get(TRACEPARENT).and_then(|header| Context::parse(header.to_str().ok()?));
        let Some(on) = &self.0 else {
            return sent.map(|own| Place { own, parent: None, recorded: false });
        };
        let random = &mut rand::rng();
        // Who began the trace has decided whether it is recorded.
        let own = match sent {
            Some(sent) => sent.child(random),
            None => {
                let sampled = random.random_bool(on.sample_share);
                Context::root(sampled, random)
            }
        };
        Some(Place { own, parent: sent.map(|sent| sent.span), recorded: own.sampled })
    }

    /// Hands spans over, or drops and counts them.
    fn send(&self, spans: Vec<Span>) {
        let Some(on) = &self.0 else { return };
        let count = spans.len() as u64;
        if on.queue.try_send(Message::Spans(spans)).is_err() {
            on.dropped.inc_by(count);
        }
    }

    /// Sends what waits, as far as that takes no longer than a moment.
    pub async fn close(&self) {
        let Some(on) = &self.0 else { return };
        let closing = async {
            let (closed, done) = tokio::sync::oneshot::channel();
            if on.queue.send(Message::Close(closed)).await.is_ok() {
                let _ = done.await;
            }
        };
        let _ = tokio::time::timeout(export::LAST, closing).await;
    }
}
