//! Every metric by name: dashboards and rules are written against this file.
//!
//! Labels have few values: endpoints, statuses, tiers and outcomes, never a tenant, a model that a client made up or an
//! id. Gauges are read when Prometheus asks, see [`scrape`](crate::http::scrape). The table below is also what
//! `dashboards/METRICS.md` is made of.

mod reference;

use prometheus::{
    CounterVec, Encoder, Gauge, GaugeVec, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec,
    IntGauge, Opts, Registry, TextEncoder, core::Collector,
};

type Result<T> = std::result::Result<T, prometheus::Error>;

const WHOLE: &[f64] =
    &[0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 40.0, 80.0, 160.0, 320.0];
const TOKEN: &[f64] = &[0.001, 0.0025, 0.005, 0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28];
const STAGE: &[f64] = &[
    0.00001, 0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0,
];
const COUNT: &[f64] = &[0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 8.0, 16.0];
const QUALITY: &[f64] = &[0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0];
const SIMILARITY: &[f64] = &[0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95, 0.97, 0.99, 1.0];

macro_rules! metrics {
    ($($field:ident: $type:ident = $name:literal, $help:literal $(, labels $labels:expr)? $(, buckets $buckets:expr)?;)*) => {
        /// All of them, in a registry of their own.
        #[derive(Debug)]
        pub struct Metrics {
            registry: Registry,
            $(#[doc = $help] pub $field: $type,)*
        }

        /// All of them, as they are described.
        const TABLE: &[Described] = &[
            $(Described { name: $name, kind: stringify!($type), labels: labels!($($labels)?), help: $help },)*
        ];

        impl Metrics {
            /// # Errors
            /// Two metrics of one name: a bug.
            pub fn new() -> Result<Self> {
                let registry = Registry::new();
                $(let $field = register(&registry, <$type as Make>::make(
                    $name, $help, labels!($($labels)?), buckets!($($buckets)?))?)?;)*
                Ok(Self { registry, $($field,)* })
            }
        }
    };
}

/// One metric, for people.
#[derive(Debug, Clone, Copy)]
struct Described {
    name: &'static str,
    /// Of this library: `IntCounterVec`.
    kind: &'static str,
    labels: &'static [&'static str],
    help: &'static str,
}

pub use reference::markdown as reference;

macro_rules! labels {
    () => {
        &[]
    };
    ($labels:expr) => {
        &$labels
    };
}

macro_rules! buckets {
    () => {
        &[]
    };
    ($buckets:expr) => {
        $buckets
    };
}

metrics! {
    build_info: GaugeVec = "reprise_build_info", "1, with the version as a label.", labels ["version"];
    requests: IntCounterVec = "reprise_requests_total", "Requests by outcome.", labels ["endpoint", "status", "tier", "cache"];
    request_duration: HistogramVec = "reprise_request_duration_seconds", "From the request's head to the last byte of its answer.", labels ["endpoint", "tier", "cache"], buckets WHOLE;
    time_to_first_token: HistogramVec = "reprise_time_to_first_token_seconds", "From the request's head to the first text of its answer.", labels ["tier"], buckets WHOLE;
    inter_token: HistogramVec = "reprise_inter_token_seconds", "Mean time between tokens of one answer.", labels ["tier"], buckets TOKEN;
    overhead: HistogramVec = "reprise_overhead_seconds", "Time in the gateway less time waiting for a tier, until the headers are sent.", labels ["endpoint"], buckets STAGE;
    stage_duration: HistogramVec = "reprise_stage_duration_seconds", "Time in one stage of a request.", labels ["stage"], buckets STAGE;
    tokens: IntCounterVec = "reprise_tokens_total", "Tokens read and written; `example` is the part of `prompt` that examples made.", labels ["tier", "kind"];
    tokens_saved: IntCounter = "reprise_tokens_saved_total", "Completion tokens that no tier had to write, because the store had the answer.";
    money_spent: CounterVec = "reprise_money_spent_total", "What whole answers of tiers cost by the tiers' prices, in the currency of those prices.", labels ["tier"];
    money_saved: CounterVec = "reprise_money_saved_total", "What the dearest tier would have cost less what was spent: by stored answers (`hit`) and by routing to a cheaper tier (`offload`).", labels ["by"];
    offloaded: IntCounter = "reprise_offloaded_total", "Routed requests that a tier under the dearest answered.";
    cache_lookups: IntCounterVec = "reprise_cache_lookups_total", "Requests by what the cache gave them.", labels ["result"];
    cache_examples: IntGauge = "reprise_cache_examples", "Examples in the cache.";
    cache_bytes: IntGauge = "reprise_cache_bytes", "Bytes of the examples in the cache.";
    cache_byte_budget: IntGauge = "reprise_cache_byte_budget", "Bytes over which examples are evicted.";
    cache_admissions: IntCounterVec = "reprise_cache_admissions_total", "Answers offered to the cache, by what became of them.", labels ["result"];
    cache_evictions: IntCounter = "reprise_cache_evictions_total", "Examples evicted.";
    selection_examples: Histogram = "reprise_selection_examples", "Examples selected for a request.", buckets COUNT;
    selection_similarity: Histogram = "reprise_selection_similarity", "Similarity of the most similar example found.", buckets SIMILARITY;
    router_decisions: IntCounterVec = "reprise_router_decisions_total", "Decisions of the router.", labels ["policy", "tier", "examples"];
    router_load: Gauge = "reprise_router_load", "L: moving average of the pool's pressure.";
    router_load_bias: Gauge = "reprise_router_load_bias", "What an arm of cost 1 loses to the load: the autoscaling signal.";
    router_straight: IntCounterVec = "reprise_router_straight_total", "Requests that went straight to the default tier.", labels ["reason"];
    shadow_runs: IntCounterVec = "reprise_shadow_runs_total", "Uncertain requests that could be asked again of the dearest tier, by what became of it.", labels ["result"];
    guard_withheld: IntCounterVec = "reprise_guard_withheld_total", "Decisions in which the harm guard withheld examples, by tier.", labels ["tier"];
    guard_off: IntGauge = "reprise_guard_off", "Clusters of requests and tiers for which the harm guard withholds examples.";
    utility_version: IntGauge = "reprise_utility_version", "Version of the utility model that scores examples; 0 is the similarity prior.";
    answer_quality: HistogramVec = "reprise_answer_quality", "Quality of answers in [0, 1], as clients rated them (`feedback`) or as they agreed with the dearest tier's (`shadow`).", labels ["tier", "examples", "by"], buckets QUALITY;
    feedback: IntCounterVec = "reprise_feedback_total", "Feedback received.", labels ["kind"];
    tier_ready: GaugeVec = "reprise_tier_ready", "1 if the tier takes requests.", labels ["tier"];
    tier_queue_depth: GaugeVec = "reprise_tier_queue_depth", "Sequences waiting.", labels ["tier"];
    tier_running: GaugeVec = "reprise_tier_running", "Sequences being generated.", labels ["tier"];
    tier_queued_seconds: GaugeVec = "reprise_tier_queued_seconds", "Predicted wait of a request submitted now.", labels ["tier"];
    tier_kv_used: GaugeVec = "reprise_tier_kv_used_ratio", "Share of the KV memory in use.", labels ["tier"];
    device_busy_seconds: CounterVec = "reprise_device_busy_seconds_total", "Seconds in calls of a device of a tier that is spread over devices: its idle share is 1 less the rate.", labels ["tier", "device"];
    device_calls: IntCounterVec = "reprise_device_calls_total", "Calls of such a device, by kind.", labels ["tier", "device", "kind"];
    device_entries: IntCounterVec = "reprise_device_entries_total", "Rows, or parts of experts, in these calls: over the calls, the mean batch.", labels ["tier", "device", "kind"];
    device_queue_depth: GaugeVec = "reprise_device_queue_depth", "Entries that wait in the micro-queues of a sub-layer; `e3` are the experts of sub-layer 3.", labels ["tier", "device", "sub_layer"];
    device_oldest_seconds: GaugeVec = "reprise_device_oldest_entry_seconds", "How long the oldest entry of a device's micro-queues waits.", labels ["tier", "device"];
    device_balance: GaugeVec = "reprise_device_balance_ratio", "Mean over maximum of the parts that the devices' experts computed since their start: 1 is even.", labels ["tier"];
    tier_errors: IntCounterVec = "reprise_tier_errors_total", "Generations that failed, by cause.", labels ["tier", "kind"];
    tier_circuit_open: GaugeVec = "reprise_tier_circuit_open", "1 while a tier is left alone because it failed.", labels ["tier"];
    tier_retries: IntCounterVec = "reprise_tier_retries_total", "Requests asked again of the same tier.", labels ["tier"];
    tier_hedges: IntCounterVec = "reprise_tier_hedges_total", "Requests asked a second time because the first had said nothing yet, by which of the two answered.", labels ["tier", "first"];
    shared_flights: IntCounter = "reprise_shared_flights_total", "Requests that waited for the answer to the same request.";
    limited: IntCounterVec = "reprise_limited_total", "Requests refused for a limit or a budget.", labels ["limit"];
    ledger_failing: IntGauge = "reprise_ledger_failing", "1 while the ledger cannot be written.";
    ledger_unrecorded: IntCounter = "reprise_ledger_unrecorded_total", "Requests answered although their use could not be recorded.";
    ledger_damaged: IntCounter = "reprise_ledger_damaged_lines_total", "Lines of the ledger that were found damaged at the start.";
    config_reloads: IntCounterVec = "reprise_config_reloads_total", "Times that the configuration was read again.", labels ["result"];
    replay_runs: IntCounterVec = "reprise_replay_runs_total", "Curation runs reported.", labels ["result"];
    replay_improved: IntCounter = "reprise_replay_improved_total", "Examples that curation improved.";
    replay_tokens: IntCounter = "reprise_replay_tokens_total", "Tokens that curation spent.";
    replay_last_run: Gauge = "reprise_replay_last_run_timestamp_seconds", "When the last curation run ended; 0 if none has.";
    store_recoveries: IntCounter = "reprise_store_recoveries_total", "Damaged stores that were set aside.";
    store_degraded: IntGauge = "reprise_store_degraded", "1 while the store refuses writes: answers go on, nothing new is remembered.";
    store_bytes: IntGauge = "reprise_store_bytes", "Size of the store on disk.";
    afterwards_dropped: IntCounter = "reprise_afterwards_dropped_total", "Answers that were not learned from because too many were waiting.";
    panics: IntCounter = "reprise_panics_total", "Requests that ended in a panic.";
    spans: IntCounter = "reprise_spans_total", "Spans that the collector took.";
    spans_dropped: IntCounterVec = "reprise_spans_dropped_total", "Spans that were not sent: the queue was full, or the collector did not take them (`export`).", labels ["reason"];
    open_streams: IntGauge = "reprise_open_streams", "Streams being written.";
    allocated_memory: IntGauge = "reprise_allocated_bytes", "Memory allocated and not freed; the rest of what is resident is kept by the allocator, or mapped.";
    resident_memory: IntGauge = "process_resident_memory_bytes", "Resident memory of the process.";
    process_start: Gauge = "process_start_time_seconds", "Start of the process, in seconds since 1970.";
}

impl Metrics {
    /// Puts the series there whose labels are known beforehand, at 0: a rate over a series that begins with its first
    /// event misses that event.
    pub fn begin(&self, version: &str, tiers: &[&str]) {
        self.build_info.with_label_values(&[version]).set(1.0);
        let known = |counter: &IntCounterVec, values: &[&str]| {
            for value in values {
                counter.with_label_values(&[value]);
            }
        };
        known(&self.cache_lookups, &["hit", "examples", "miss", "bypass"]);
        known(&self.cache_admissions, &["inserted", "merged", "refused", "failed"]);
        known(&self.router_straight, &["deadline", "error"]);
        known(&self.shadow_runs, &["learned", "skipped", "failed"]);
        known(&self.feedback, &["rating", "preference", "corrected"]);
        known(&self.replay_runs, &["ok", "failed"]);
        known(&self.config_reloads, &["ok", "failed"]);
        known(&self.spans_dropped, &["queue", "export"]);
        for by in ["hit", "offload"] {
            self.money_saved.with_label_values(&[by]);
        }
        known(&self.limited, &["requests", "tokens", "budget_tokens", "budget_money"]);
        for tier in tiers {
            self.money_spent.with_label_values(&[tier]);
            for (examples, by) in
                [("true", "feedback"), ("true", "shadow"), ("false", "feedback"), ("false", "shadow")]
            {
                self.answer_quality.with_label_values(&[tier, examples, by]);
            }
            self.guard_withheld.with_label_values(&[tier]);
            self.tier_retries.with_label_values(&[tier]);
            for first in ["true", "false"] {
                self.tier_hedges.with_label_values(&[tier, first]);
            }
            for kind in ["overloaded", "not_ready", "deadline", "upstream", "internal"] {
                self.tier_errors.with_label_values(&[tier, kind]);
            }
            for kind in ["prompt", "completion", "example"] {
                self.tokens.with_label_values(&[tier, kind]);
            }
        }
    }

    /// The text that Prometheus reads.
    ///
    /// # Errors
    /// The encoder's own.
    pub fn render(&self) -> Result<Vec<u8>> {
        let mut text = Vec::new();
        TextEncoder::new().encode(&self.registry.gather(), &mut text)?;
        Ok(text)
    }
}

fn register<C: Collector + Clone + 'static>(registry: &Registry, collector: C) -> Result<C> {
    registry.register(Box::new(collector.clone()))?;
    Ok(collector)
}

/// One way to make each kind of metric, so that the table above can list them all alike.
trait Make: Sized {
    fn make(name: &str, help: &str, labels: &[&str], buckets: &[f64]) -> Result<Self>;
}

macro_rules! make {
    ($($type:ident: |$name:ident, $help:ident, $labels:ident, $buckets:ident| $new:expr;)*) => {
        $(impl Make for $type {
            fn make($name: &str, $help: &str, $labels: &[&str], $buckets: &[f64]) -> Result<Self> {
                $new
            }
        })*
    };
}

make! {
    IntCounter: |name, help, _labels, _buckets| Self::new(name, help);
    IntGauge: |name, help, _labels, _buckets| Self::new(name, help);
    Gauge: |name, help, _labels, _buckets| Self::new(name, help);
    CounterVec: |name, help, labels, _buckets| Self::new(Opts::new(name, help), labels);
    IntCounterVec: |name, help, labels, _buckets| Self::new(Opts::new(name, help), labels);
    GaugeVec: |name, help, labels, _buckets| Self::new(Opts::new(name, help), labels);
    Histogram: |name, help, _labels, buckets| Self::with_opts(HistogramOpts::new(name, help).buckets(buckets.to_vec()));
    HistogramVec: |name, help, labels, buckets| Self::new(HistogramOpts::new(name, help).buckets(buckets.to_vec()), labels);
}
