//! `GET /metrics`. Gauges are read here, when Prometheus asks: nothing has to keep them in step.

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::header::CONTENT_TYPE;
use parking_lot::Mutex;
use reprise_tier::{DeviceCalls, DeviceLoad, TierState};

use crate::allocator;
use crate::error::ApiError;
use crate::metrics::Metrics;
use crate::process;
use crate::state::{AppState, SharedState};

const TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";

pub async fn metrics(State(state): State<SharedState>) -> Result<Response, ApiError> {
    observe_tiers(&state);
    let metrics = &state.metrics;
    let load = state.router.load_report();
    metrics.router_load.set(load.load);
    metrics.router_load_bias.set(load.bias);
    metrics.guard_off.set(gauge(state.router.withheld().len()));
    metrics.cache_byte_budget.set(i64::try_from(state.config().cache.byte_budget).unwrap_or(i64::MAX));
    metrics.ledger_failing.set(i64::from(state.desk.is_failing()));
    metrics.allocated_memory.set(allocator::allocated_bytes());
    if let Some(resident) = process::resident_bytes() {
        metrics.resident_memory.set(resident);
    }
    if let Some(cache) = state.cache() {
        let stats = cache.stats();
        metrics.cache_examples.set(gauge(stats.examples));
        metrics.cache_bytes.set(gauge(stats.bytes));
        metrics.store_degraded.set(i64::from(stats.degraded));
        metrics.utility_version.set(i64::from(cache.utility().version));
    }
    let text = metrics.render().map_err(|error| {
        tracing::error!(%error, "metrics cannot be rendered");
        ApiError::internal()
    })?;
    Ok(([(CONTENT_TYPE, TEXT)], text).into_response())
}

fn observe_tiers(state: &AppState) {
    let metrics = &state.metrics;
    for (index, tier) in state.pool.iter().enumerate() {
        let (name, pressure) = (tier.info().name.as_str(), tier.pressure());
        let broken = state.pool.is_broken(index);
        metrics.tier_circuit_open.with_label_values(&[name]).set(f64::from(u8::from(broken)));
        let ready = f64::from(u8::from(tier.state() == TierState::Ready && !broken));
        metrics.tier_ready.with_label_values(&[name]).set(ready);
        metrics.tier_queue_depth.with_label_values(&[name]).set(pressure.waiting as f64);
        metrics.tier_running.with_label_values(&[name]).set(pressure.running as f64);
        metrics.tier_queued_seconds.with_label_values(&[name]).set(pressure.queued_seconds);
        metrics.tier_kv_used.with_label_values(&[name]).set(pressure.kv_used);
        observe_devices(metrics, name, &tier.devices());
    }
}

/// What devices count themselves is brought up to date here.
fn observe_devices(metrics: &Metrics, tier: &str, devices: &[DeviceLoad]) {
    // Two scrapes at once would both add what is missing.
    static ONE: Mutex<()> = Mutex::new(());
    let _one = ONE.lock();
    for (index, device) in devices.iter().enumerate() {
        let index = index.to_string();
        let labels = [tier, index.as_str()];
        let busy = metrics.device_busy_seconds.with_label_values(&labels);
        busy.inc_by((device.busy_seconds - busy.get()).max(0.0));
        metrics.device_oldest_seconds.with_label_values(&labels).set(device.oldest_seconds);
        for DeviceCalls { kind, calls, entries } in &device.calls {
            let labels = [tier, index.as_str(), *kind];
            for (counter, total) in [(&metrics.device_calls, calls), (&metrics.device_entries, entries)] {
                let counter = counter.with_label_values(&labels);
                counter.inc_by(total.saturating_sub(counter.get()));
            }
        }
        for (sub_layer, depth) in &device.queue_depth {
            let labels = [tier, index.as_str(), sub_layer.as_str()];
            metrics.device_queue_depth.with_label_values(&labels).set(*depth as f64);
        }
    }
    let parts = || devices.iter().map(|device| device.expert_parts);
    if let Some(most) = parts().max().filter(|most| *most > 0) {
        let mean = parts().sum::<u64>() as f64 / devices.len() as f64;
        metrics.device_balance.with_label_values(&[tier]).set(mean / most as f64);
    }
}

fn gauge(value: usize) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}
