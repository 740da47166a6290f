//! Spans to the collector: OTLP over HTTP, protobuf, in batches.

use std::time::Duration;

use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderName, HeaderValue};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::InstrumentationScope;
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans};
use prometheus::IntCounter;
use prost::Message as _;
use reqwest::{Client, Url};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, timeout_at};

use super::span::{Span, text};
use crate::config::TelemetryPlan;
use crate::metrics::Metrics;

/// Spans of one message, about.
const BATCH: usize = 512;
/// The longest that a span waits for others.
const GATHER: Duration = Duration::from_secs(1);
/// For a collector to take a batch; meanwhile the queue fills, and then spans are dropped.
const PATIENCE: Duration = Duration::from_secs(10);
/// For the last batch, at the end.
pub const LAST: Duration = Duration::from_secs(2);

#[derive(Debug)]
pub enum Message {
    Spans(Vec<Span>),
    Close(oneshot::Sender<()>),
}

#[derive(Debug)]
pub struct Exporter {
    client: Client,
    endpoint: Url,
    headers: HeaderMap,
    resource: Resource,
    sent: IntCounter,
    refused: IntCounter,
}

impl Exporter {
    pub fn new(plan: &TelemetryPlan, metrics: &Metrics) -> Self {
        let mut headers = plan.headers.clone();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-protobuf"));
        headers.insert(HeaderName::from_static("user-agent"), HeaderValue::from_static("reprise"));
        let attributes = vec![
            text("service.name", "reprise"),
            text("service.version", env!("CARGO_PKG_VERSION")),
            text("service.instance.id", &uuid::Uuid::new_v4().to_string()),
        ];
        Self {
            client: Client::new(),
            endpoint: plan.endpoint.clone(),
            headers,
            resource: Resource { attributes, ..Resource::default() },
            sent: metrics.spans.clone(),
            refused: metrics.spans_dropped.with_label_values(&["export"]),
        }
    }

    /// Until the other end of the queue is gone, or it is closed.
    pub async fn run(self, mut queue: mpsc::Receiver<Message>) {
        let mut closing = None;
        while closing.is_none() {
            let Some(first) = queue.recv().await else { return };
            let gathered_by = Instant::now() + GATHER;
            let (mut spans, mut next) = (Vec::new(), Some(first));
            while let Some(message) = next {
                match message {
                    Message::Spans(more) => spans.extend(more),
                    Message::Close(done) => closing = Some(done),
                }
                if closing.is_some() || spans.len() >= BATCH {
                    break;
                }
                next = timeout_at(gathered_by, queue.recv()).await.ok().flatten();
            }
            if !spans.is_empty() {
                self.export(spans).await;
            }
        }
        if let Some(done) = closing {
            // Nobody waits any more: no matter.
            let _ = done.send(());
        }
    }

    async fn export(&self, spans: Vec<Span>) {
        let count = spans.len() as u64;
        let scope = InstrumentationScope { name: "reprise".into(), ..InstrumentationScope::default() };
        let spans = ScopeSpans { scope: Some(scope), spans, ..ScopeSpans::default() };
        let resource = Some(self.resource.clone());
        let resource = ResourceSpans { resource, scope_spans: vec![spans], ..ResourceSpans::default() };
        let body = ExportTraceServiceRequest { resource_spans: vec![resource] }.encode_to_vec();
        let request = self.client.post(self.endpoint.clone()).headers(self.headers.clone()).body(body);
        match request.timeout(PATIENCE).send().await.and_then(reqwest::Response::error_for_status) {
            Ok(_) => self.sent.inc_by(count),
            Err(error) => {
                self.refused.inc_by(count);
                // Without the address: it may hold a secret.
                let error = error.without_url();
                tracing::debug!(%error, spans = count, "the collector did not take spans");
            }
        }
    }
}
