//! Traces: every stage of a request as a span at an OpenTelemetry collector, in the client's own trace, and in an upstream's.
#![cfg(test)]

mod support;

use std::collections::HashMap;
use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value as Any;
use opentelemetry_proto::tonic::trace::v1::Span;
use parking_lot::Mutex;
use prost::Message as _;
use support::upstream::{Script, Upstream};
use support::wait::eventually;
use support::{CAPITAL, Gateway, Setup, ask, ask_streamed};
use tokio::net::TcpListener;

const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";

/// A collector that decodes what it is sent.
struct Collector {
    endpoint: String,
    spans: Arc<Mutex<Vec<Span>>>,
    server: tokio::task::JoinHandle<()>,
}

impl Collector {
    async fn start() -> Self {
        let spans: Arc<Mutex<Vec<Span>>> = Arc::default();
        let app = Router::new().route("/v1/traces", post(take)).with_state(Arc::clone(&spans));
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a free port");
        let endpoint = format!("http://{}", listener.local_addr().expect("its address"));
        let server = tokio::spawn(async move {
            axum::serve(listener, app).await.expect("the collector serves");
        });
        Self { endpoint, spans, server }
    }

    /// The spans of a trace, once one of this name is among them.
    async fn trace(&self, trace: &str, name: &str) -> Vec<Span> {
        eventually(&format!("a span {name} of {trace}"), || async {
            let spans: Vec<Span> =
                self.spans.lock().iter().filter(|span| hex(&span.trace_id) == trace).cloned().collect();
            spans.iter().any(|span| span.name == name).then_some(spans)
        })
        .await
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn take(State(spans): State<Arc<Mutex<Vec<Span>>>>, head: HeaderMap, body: Bytes) -> StatusCode {
    assert_eq!(head["content-type"], "application/x-protobuf");
    let request = ExportTraceServiceRequest::decode(body).expect("OTLP");
    for resource in request.resource_spans {
        let service = resource.resource.expect("a resource").attributes;
        assert!(service.iter().any(|attribute| attribute.key == "service.name"));
        spans.lock().extend(resource.scope_spans.into_iter().flat_map(|scope| scope.spans));
    }
    StatusCode::OK
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn attributes(span: &Span) -> HashMap<&str, String> {
    let told = |attribute: &opentelemetry_proto::tonic::common::v1::KeyValue| match attribute
        .value
        .as_ref()?
        .value
        .as_ref()?
    {
        Any::StringValue(text) => Some(text.clone()),
        Any::IntValue(number) => Some(number.to_string()),
        Any::DoubleValue(number) => Some(number.to_string()),
        Any::BoolValue(flag) => Some(flag.to_string()),
        other => Some(format!("{other:?}")),
    };
    span.attributes.iter().map(|one| (one.key.as_str(), told(one).unwrap_or_default())).collect()
}

fn named<'a>(spans: &'a [Span], name: &str) -> &'a Span {
    spans.iter().find(|span| span.name == name).unwrap_or_else(|| panic!("no span {name}: {spans:#?}"))
}

#[tokio::test]
async fn every_stage_is_a_span_in_the_clients_trace() {
    let collector = Collector::start().await;
    let setup = Setup::small().telemetry(&format!("otlp_endpoint = \"{}\"", collector.endpoint));
    let gateway = Gateway::start(setup).await;
    let reply = gateway.chat_with(&ask_streamed("auto", CAPITAL), &[("traceparent", PARENT)]).await;
    let answered = reply.header("traceparent").to_owned();
    assert!(answered.starts_with(&format!("00-{TRACE}-")) && answered.ends_with("-01"), "{answered}");

    let spans = collector.trace(TRACE, "admit").await;
    let root = named(&spans, "chat auto");
    assert_eq!((hex(&root.parent_span_id), root.kind), ("b7ad6b7169203331".into(), 2));
    assert_eq!(hex(&root.span_id), answered[36..52]);
    let told = attributes(root);
    assert_eq!((&*told["gen_ai.operation.name"], &*told["gen_ai.request.model"]), ("chat", "auto"));
    assert_eq!((&*told["reprise.tier"], &*told["reprise.cache"]), ("small", "MISS"));
    assert!(told["gen_ai.usage.output_tokens"].parse::<u32>().expect("a number") > 0);
    assert!(!format!("{spans:?}").contains("Germany"), "what was asked stays here");

    let tier = spans
        .iter()
        .find(|span| attributes(span).contains_key("gen_ai.response.model") && span.span_id != root.span_id);
    let tier = tier.expect("the tier's span");
    for (name, parent) in [
        ("parse", root),
        ("exact", root),
        ("embed", root),
        ("retrieve", root),
        ("select", root),
        ("route", root),
        ("admit", root),
        ("queue", tier),
        ("prefill", tier),
        ("decode", tier),
    ] {
        let span = named(&spans, name);
        assert_eq!(span.parent_span_id, parent.span_id, "{name}");
        assert!(span.start_time_unix_nano >= root.start_time_unix_nano, "{name}");
        assert!(span.end_time_unix_nano >= span.start_time_unix_nano, "{name}");
    }
    assert!(named(&spans, "decode").end_time_unix_nano <= root.end_time_unix_nano + 1_000_000);
    gateway.until("reprise_spans_total", &[], |sent| sent >= spans.len() as f64).await;
}

#[tokio::test]
async fn an_upstream_is_told_of_the_trace_and_a_failure_is_an_error() {
    let collector = Collector::start().await;
    let upstream = Upstream::start(Script::Answer("Berlin.")).await;
    let setup = Setup::empty()
        .remote("far", 1.0, &upstream.base_url)
        .resilience("retries = 0")
        .telemetry(&format!("otlp_endpoint = \"{}\"", collector.endpoint));
    let gateway = Gateway::start(setup).await;
    gateway.chat_with(&ask("far", CAPITAL), &[("traceparent", PARENT)]).await;
    let spans = collector.trace(TRACE, "chat far").await;
    let tier = named(&spans, "chat upstream-model");
    assert_eq!(tier.kind, 3, "a client's span");
    assert_eq!(upstream.last_header("traceparent"), Some(format!("00-{TRACE}-{}-01", hex(&tier.span_id))));

    upstream.play(Script::Status(500, "{\"error\": {\"message\": \"broken\"}}"));
    let reply = gateway.chat(&ask("far", "Another question?")).await;
    let own = reply.header("traceparent")[3..35].to_owned();
    assert_ne!(own, TRACE);
    let spans = collector.trace(&own, "chat far").await;
    for name in ["chat far", "chat upstream-model"] {
        let span = named(&spans, name);
        assert_eq!(span.status.as_ref().map(|status| status.code), Some(2), "{span:?}");
        assert!(attributes(span).contains_key("error.type"));
    }
}

#[tokio::test]
async fn a_trace_that_is_not_sampled_is_passed_on_and_not_recorded() {
    let collector = Collector::start().await;
    let upstream = Upstream::start(Script::Answer("Berlin.")).await;
    let setup = Setup::empty()
        .remote("far", 1.0, &upstream.base_url)
        .telemetry(&format!("otlp_endpoint = \"{}\"", collector.endpoint));
    let gateway = Gateway::start(setup).await;
    let unsampled = PARENT.replace("-01", "-00");
    gateway.chat_with(&ask("far", CAPITAL), &[("traceparent", &unsampled)]).await;
    let told = upstream.last_header("traceparent").expect("a traceparent");
    assert!(told.starts_with(&format!("00-{TRACE}-")) && told.ends_with("-00"), "{told}");
    let reply = gateway.chat_with(&ask("far", "Something else?"), &[("traceparent", "nonsense")]).await;
    let own = reply.header("traceparent")[3..35].to_owned();
    collector.trace(&own, "chat far").await;
    assert!(collector.spans.lock().iter().all(|span| hex(&span.trace_id) != TRACE));
}

#[tokio::test]
async fn without_a_collector_a_trace_is_only_passed_on() {
    let upstream = Upstream::start(Script::Answer("Berlin.")).await;
    let gateway = Gateway::start(Setup::empty().remote("far", 1.0, &upstream.base_url)).await;
    let reply = gateway.chat_with(&ask("far", CAPITAL), &[("traceparent", PARENT)]).await;
    assert_eq!(upstream.last_header("traceparent").as_deref(), Some(PARENT));
    assert_eq!(reply.header("traceparent"), PARENT);
    let reply = gateway.chat(&ask("far", "Without?")).await;
    assert_eq!(upstream.last_header("traceparent"), None);
    assert!(!reply.headers.contains_key("traceparent"));
}

/// The port is one that nobody listens on, and the queue holds one request's spans.
#[tokio::test]
async fn a_collector_that_is_gone_costs_spans_and_no_answer() {
    let upstream = Upstream::start(Script::Answer("Berlin.")).await;
    let setup = Setup::empty()
        .remote("far", 1.0, &upstream.base_url)
        .telemetry("otlp_endpoint = \"http://127.0.0.1:9\"\nqueue = 1");
    let gateway = Gateway::start(setup).await;
    for number in 0..20 {
        assert!(gateway.chat(&ask("far", &format!("Question {number}?"))).await.status.is_success());
    }
    gateway.until("reprise_spans_dropped_total", &[("reason", "export")], |dropped| dropped > 0.0).await;
    assert_eq!(gateway.metrics().await.sum("reprise_spans_total", &[]), 0.0);
}
