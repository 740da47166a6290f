//! Spans and attributes in OpenTelemetry's messages.

use std::time::{Duration, Instant};

use jiff::Timestamp;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, ArrayValue, KeyValue};
use opentelemetry_proto::tonic::trace::v1::Status;
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;

use super::context::{Context, SpanId};

pub use opentelemetry_proto::tonic::trace::v1::Span;
pub use opentelemetry_proto::tonic::trace::v1::span::SpanKind;

/// From the process's clock to the world's.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    pub begun: Instant,
    pub at: Timestamp,
}

impl Clock {
    fn nanos(self, when: Instant) -> u64 {
        let since = when.saturating_duration_since(self.begun).as_nanos();
        let began = u128::try_from(self.at.as_nanosecond()).unwrap_or(0);
        u64::try_from(began + since).unwrap_or(u64::MAX)
    }
}

pub fn span(own: Context, parent: Option<SpanId>, name: String, kind: SpanKind) -> Span {
    Span {
        trace_id: own.trace.to_vec(),
        span_id: own.span.to_vec(),
        parent_span_id: parent.map(|id| id.to_vec()).unwrap_or_default(),
        name,
        kind: kind.into(),
        // What W3C's flags are in OTLP: the sampled bit.
        flags: u32::from(own.sampled),
        ..Span::default()
    }
}

pub trait Parts: Sized {
    fn during(self, clock: Clock, begun: Instant, took: Duration) -> Self;
    fn with(self, attributes: impl IntoIterator<Item = KeyValue>) -> Self;
    /// `error.type` is a short, known word; `message` is for people.
    fn failed(self, kind: &str, message: &str) -> Self;
}

impl Parts for Span {
    fn during(mut self, clock: Clock, begun: Instant, took: Duration) -> Self {
        self.start_time_unix_nano = clock.nanos(begun);
        self.end_time_unix_nano = clock.nanos(begun + took);
        self
    }

    fn with(mut self, attributes: impl IntoIterator<Item = KeyValue>) -> Self {
        self.attributes.extend(attributes);
        self
    }

    fn failed(mut self, kind: &str, message: &str) -> Self {
        self.attributes.push(text("error.type", kind));
        self.status = Some(Status { message: message.to_owned(), code: StatusCode::Error.into() });
        self
    }
}

pub fn text(key: &str, value: &str) -> KeyValue {
    attribute(key, Value::StringValue(value.to_owned()))
}

pub fn number(key: &str, value: impl Into<i64>) -> KeyValue {
    attribute(key, Value::IntValue(value.into()))
}

pub fn real(key: &str, value: f64) -> KeyValue {
    attribute(key, Value::DoubleValue(value))
}

pub fn flag(key: &str, value: bool) -> KeyValue {
    attribute(key, Value::BoolValue(value))
}

pub fn texts(key: &str, values: &[&str]) -> KeyValue {
    let each = |value: &&str| AnyValue { value: Some(Value::StringValue((*value).to_owned())) };
    attribute(key, Value::ArrayValue(ArrayValue { values: values.iter().map(each).collect() }))
}

fn attribute(key: &str, value: Value) -> KeyValue {
    KeyValue { key: key.to_owned(), value: Some(AnyValue { value: Some(value) }), ..KeyValue::default() }
}
