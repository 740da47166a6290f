//! `GET /admin/v1/pool`: the tiers and how busy they are.

use axum::Json;
use axum::extract::State;
use reprise_router::{Pool, Router};
use reprise_tier::{DeviceLoad, Pressure, SharedTier, TierInfo, TierState};
use schemars::JsonSchema;
use serde::Serialize;

use super::Admin;

#[derive(Debug, Serialize, JsonSchema)]
pub struct PoolReport {
    /// L: the router's moving average of the pressure.
    load: f64,
    /// Nothing waits and nothing runs: the time for the curation job.
    idle: bool,
    /// Cheapest first.
    tiers: Vec<TierReport>,
}

#[derive(Debug, Serialize, JsonSchema)]
struct TierReport {
    #[serde(flatten)]
    info: TierInfo,
    #[serde(flatten)]
    state: TierState,
    pressure: Pressure,
    /// Of a tier whose model is spread over devices, each of them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    devices: Vec<DeviceLoad>,
}

pub async fn show(State(admin): State<Admin>) -> Json<PoolReport> {
    Json(report(&admin.app().pool, &admin.app().router))
}

pub fn report(pool: &Pool, router: &Router) -> PoolReport {
    let tiers: Vec<TierReport> = pool.iter().map(tier).collect();
    PoolReport {
        load: router.load_report().load,
        idle: tiers.iter().all(|tier| tier.pressure.waiting == 0 && tier.pressure.running == 0),
        tiers,
    }
}

fn tier(tier: &SharedTier) -> TierReport {
    TierReport {
        info: tier.info().clone(),
        state: tier.state(),
        pressure: tier.pressure(),
        devices: tier.devices(),
    }
}
