//! `/admin/v1/replay/runs`: the curation job reports here, the console reads it.

use std::time::Instant;

use axum::Json;
use axum::extract::State;
use http::StatusCode;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::body::Fields;
use super::lease::Holder;
use super::query::Params;
use super::runs::Run;
use super::{Admin, AdminError};
use crate::error::ApiError;
use crate::metrics::Metrics;
use crate::state::now_ms;

const MAX_REPORT_BYTES: usize = 64 << 10;
const DEFAULT_LIMIT: usize = 50;

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Page {
    #[serde(default)]
    limit: Option<usize>,
}

#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "ReplayRuns")]
pub struct Runs {
    /// Newest first.
    data: Vec<Run>,
    /// Who works on the cache now.
    lease: Option<Holder>,
}

#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "ReplayReceived")]
pub struct Received {
    received_at_ms: i64,
}

pub async fn list(State(admin): State<Admin>, Params(page): Params<Page>) -> Result<Json<Runs>, AdminError> {
    let lease = admin.lease().current(Instant::now());
    let limit = page.limit.unwrap_or(DEFAULT_LIMIT);
    let data = admin.blocking(move |admin| admin.with_runs(|runs| Ok(runs.newest(limit)))).await??;
    Ok(Json(Runs { data, lease }))
}

/// Answers once the report is on the disk. What the metrics count is read out of it; the rest is the job's own affair.
pub async fn add(
    State(admin): State<Admin>,
    Fields(report): Fields<Map<String, Value>>,
) -> Result<(StatusCode, Json<Received>), AdminError> {
    let bytes = serde_json::to_vec(&report).map_or(0, |text| text.len());
    if bytes > MAX_REPORT_BYTES {
        let message = format!("the report has {bytes} bytes; at most {MAX_REPORT_BYTES} are kept");
        return Err(ApiError::bad_body(message).into());
    }
    let received_at_ms = now_ms();
    let run = Run { received_at_ms, report: report.clone() };
    admin.blocking(move |admin| admin.with_runs(|runs| runs.add(run))).await??;
    count(&admin.app().metrics, &report);
    Ok((StatusCode::CREATED, Json(Received { received_at_ms })))
}

/// Reasons to stop that become a label.
const STOPS: [&str; 8] = [
    "no_candidate_left",
    "saving_below_cost",
    "budget",
    "pool_busy",
    "best_tier_not_ready",
    "lease_lost",
    "interrupted",
    "gateway_fails",
];

fn count(metrics: &Metrics, report: &Map<String, Value>) {
    let number = |name: &str| report.get(name).and_then(Value::as_u64).unwrap_or(0);
    let told = report.get("improved").and_then(Value::as_array).map_or(0, Vec::len);
    let stop = report.get("stopped_because").and_then(Value::as_str);
    let stop = stop.filter(|stop| STOPS.contains(stop)).unwrap_or("other");
    metrics.replay_runs.with_label_values(&[stop]).inc();
    metrics.replay_improved.inc_by(told as u64 + number("improved_omitted"));
    metrics.replay_tokens.inc_by(number("tokens_spent"));
    metrics.replay_last_run.set(now_ms() as f64 / 1e3);
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_report_is_counted_and_makes_no_labels_of_its_own() {
        let metrics = Metrics::new().unwrap();
        for stop in ["budget", "made up"] {
            let report = json!({
                "stopped_because": stop, "improved": [{}, {}], "improved_omitted": 3, "tokens_spent": 100,
            });
            count(&metrics, report.as_object().unwrap());
        }
        let text = String::from_utf8(metrics.render().unwrap()).unwrap();
        for line in [
            "reprise_replay_runs_total{result=\"budget\"} 1",
            "reprise_replay_runs_total{result=\"other\"} 1",
            "reprise_replay_improved_total 10",
            "reprise_replay_tokens_total 200",
        ] {
            assert!(text.contains(line), "{line} in {text}");
        }
    }
}
