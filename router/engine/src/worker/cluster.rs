//! The devices of a tier whose model is spread over several.

use std::{collections::HashMap, sync::Arc, time::Duration};

use parking_lot::Mutex;
use reprise_expert_parallel::{Cluster, ClusterConfig, measure};
use reprise_scheduler::{
    Backend, DeviceId, SubLayerKind,
    placement::{Demand, Greedy, Loads, Planner, Roles},
    schedule::ControlConfig,
};

use super::{
    Shared,
    load::{Model, warm_up},
    spread::{Requests, choose},
};
use crate::{
    EngineError,
    backend::{CpuBackend, MemoryEstimate},
    config::Spread,
    loader::Checkpoint,
    memory::{self, AvailableMemory},
};

/// A device that has not moved for so long is lost: some times what the longest call takes on a busy machine.
const STALL: Duration = Duration::from_secs(10);

/// Loads the weights once and starts a thread for each device. Every device has attention and its share of the experts and of
/// the sequences. Returns the context length too.
pub(super) fn start(
    shared: &Shared,
    spread: &Spread,
    mut checkpoint: Checkpoint,
    stop: &dyn Fn() -> bool,
) -> Result<(Model, usize), EngineError> {
    let config = &shared.config;
    let devices = spread.devices.get();
    let count = usize::from(devices);
    let trained = checkpoint.plan().sizes.context_length;
    let (ticks, options) = config.device_options(*spread, trained);
    let all = MemoryEstimate::of(checkpoint.plan(), &config.memory_options(trained));
    memory::check_fit(&all, AvailableMemory::now())?;
    let mut first = CpuBackend::load(&mut checkpoint, &options, &mut |_| {}, stop)?;
    let layout = first.layout().clone();
    if !layout.sub_layers.iter().any(|kind| matches!(kind, SubLayerKind::Experts { .. })) {
        return Err(EngineError::Unsupported {
            what: "model on several devices",
            value: config.model_id.clone(),
            supported: "mixtures of experts",
        });
    }
    warm_up(&mut first, config, &shared.meter)?;
    let inconsistent = |error: &dyn std::fmt::Display| EngineError::Inconsistent(error.to_string());
    let profile = measure(&mut first, config.name.clone(), "measured at the start")
        .map_err(|error| inconsistent(&error))?;
    let ids: Vec<_> = (0..devices).map(DeviceId).collect();
    let loads = Loads::even(&layout);
    let demand = Demand {
        layout: &layout,
        devices: &ids,
        roles: Roles::Shared,
        experts_per_group: 1,
        replicas: 0,
        loads: &loads,
    };
    let placement = Greedy.place(&demand).map_err(|error| inconsistent(&error))?;
    let cluster_config = ClusterConfig {
        ticks,
        schedule: spread.schedule,
        costs: profile.costs(),
        control: ControlConfig::default(),
        placement,
        replan: None,
        stall: STALL,
        spin: reprise_expert_parallel::transport::SPIN,
        greedy: false,
        compare: None,
        keep_spans: false,
    };
    let mut backends = vec![first];
    while backends.len() < count {
        let sibling = backends[0].sibling(&options)?;
        backends.push(sibling);
    }
    let requests: Requests = Arc::new(Mutex::new(HashMap::new()));
    let cluster = Cluster::start(backends, cluster_config, || choose(&requests));
    let cluster = cluster.map_err(|error| inconsistent(&error))?;
    let places = ticks.max_sequences * count;
    let cluster = Box::new(cluster);
    Ok((Model::Spread { cluster, requests, places }, layout.context_length))
}
