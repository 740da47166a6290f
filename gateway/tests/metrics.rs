//! Every metric that the dashboards and the operators' guide name is there, from the first scrape on.
#![cfg(test)]

mod support;

use std::collections::BTreeSet;

use support::{CAPITAL, Gateway, Setup, ask, ask_streamed};

/// Names of all families, as README and dashboards know them.
const FAMILIES: &[&str] = &[
    "process_resident_memory_bytes",
    "process_start_time_seconds",
    "reprise_afterwards_dropped_total",
    "reprise_allocated_bytes",
    "reprise_answer_quality",
    "reprise_build_info",
    "reprise_cache_admissions_total",
    "reprise_cache_byte_budget",
    "reprise_cache_bytes",
    "reprise_cache_evictions_total",
    "reprise_cache_examples",
    "reprise_cache_lookups_total",
    "reprise_config_reloads_total",
    "reprise_feedback_total",
    "reprise_guard_off",
    "reprise_guard_withheld_total",
    "reprise_inter_token_seconds",
    "reprise_ledger_damaged_lines_total",
    "reprise_ledger_failing",
    "reprise_ledger_unrecorded_total",
    "reprise_limited_total",
    "reprise_money_saved_total",
    "reprise_money_spent_total",
    "reprise_offloaded_total",
    "reprise_open_streams",
    "reprise_overhead_seconds",
    "reprise_panics_total",
    "reprise_replay_improved_total",
    "reprise_replay_last_run_timestamp_seconds",
    "reprise_replay_runs_total",
    "reprise_replay_tokens_total",
    "reprise_request_duration_seconds",
    "reprise_requests_total",
    "reprise_router_decisions_total",
    "reprise_router_load",
    "reprise_router_load_bias",
    "reprise_router_straight_total",
    "reprise_selection_examples",
    "reprise_selection_similarity",
    "reprise_shadow_runs_total",
    "reprise_shared_flights_total",
    "reprise_spans_dropped_total",
    "reprise_spans_total",
    "reprise_stage_duration_seconds",
    "reprise_store_bytes",
    "reprise_store_degraded",
    "reprise_store_recoveries_total",
    "reprise_tier_circuit_open",
    "reprise_tier_errors_total",
    "reprise_tier_hedges_total",
    "reprise_tier_kv_used_ratio",
    "reprise_tier_queue_depth",
    "reprise_tier_queued_seconds",
    "reprise_tier_ready",
    "reprise_tier_retries_total",
    "reprise_tier_running",
    "reprise_time_to_first_token_seconds",
    "reprise_tokens_saved_total",
    "reprise_tokens_total",
    "reprise_utility_version",
];

#[tokio::test]
async fn every_family_is_exported_and_counts() {
    let gateway = Gateway::start(Setup::small().router("policy = \"small-examples\"")).await;
    gateway.chat(&ask("auto", CAPITAL)).await;
    gateway.chat(&ask_streamed("auto", CAPITAL)).await;
    gateway.chat(&ask("nobody", CAPITAL)).await.assert_error(404, None);

    let metrics = gateway.metrics().await;
    let missing: Vec<&str> =
        FAMILIES.iter().filter(|family| !metrics.families().contains(*family)).copied().collect();
    assert!(missing.is_empty(), "missing: {missing:?}");
    let known: BTreeSet<&str> = FAMILIES.iter().copied().collect();
    let unknown: Vec<&str> = metrics
        .families()
        .into_iter()
        .filter(|name| name.starts_with("reprise_") && !known.contains(name))
        .collect();
    assert!(unknown.is_empty(), "exported, but in no list and so on no dashboard: {unknown:?}");

    assert_eq!(
        metrics.sum("reprise_requests_total", &[("status", "200"), ("tier", "small")]),
        1.0,
        "{metrics:?}"
    );
    assert_eq!(metrics.sum("reprise_requests_total", &[("status", "404")]), 1.0);
    assert_eq!(metrics.sum("reprise_request_duration_seconds_count", &[]), 3.0);
    assert_eq!(metrics.sum("reprise_tier_ready", &[("tier", "small")]), 1.0);
    assert!(metrics.sum("process_resident_memory_bytes", &[]) > 50e6);
    assert!(metrics.sum("reprise_allocated_bytes", &[]) > 50e6);
    assert!(metrics.sum("reprise_tokens_total", &[("tier", "small"), ("kind", "completion")]) > 0.0);
    assert!(metrics.sum("reprise_stage_duration_seconds_count", &[("stage", "embed")]) >= 1.0);
    assert_eq!(metrics.sum("reprise_build_info", &[("version", env!("CARGO_PKG_VERSION"))]), 1.0);
}
