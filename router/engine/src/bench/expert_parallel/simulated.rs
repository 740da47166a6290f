use reprise_expert_parallel::{
    profile::{Hardware, Profile, SHAPES, Shape},
    simulate::{Config, Gates, simulate},
};
use reprise_scheduler::{
    DeviceId, ModelLayout, ScheduleKind, SubLayerKind, placement::Loads, schedule::ControlConfig,
};
use serde_json::Value;

use super::{
    ExpertParallel, ExpertParallelError, SEED,
    machine::{Machine, Threads, gated},
    real,
    report::{Run, whole},
};

/// KV memory of a device with attention, in tokens, where there is no device to ask: about 60 GB of Mixtral's.
const KV_TOKENS: usize = 480_000;
const BLOCK_TOKENS: usize = 32;

pub(super) fn run(options: &ExpertParallel) -> Result<Value, ExpertParallelError> {
    let shape = SHAPES.iter().find(|shape| shape.name == options.model);
    let (layout, profile, natural) = match shape {
        Some(shape) => {
            let shape = Shape { top_k: options.top_k.unwrap_or(shape.top_k), ..*shape };
            let layout = layout(options, &shape);
            let even = Loads::even(&layout);
            (layout, Profile::roofline(&shape, &Hardware::H100), even)
        }
        None => {
            let machine = Threads::load(options)?;
            gated(options, machine.layout())?;
            let natural = real::natural_loads(options, &machine)?;
            let profile = match &options.profile {
                Some(path) => Profile::read(path)?,
                None => real::measured(options, &machine)?,
            };
            (machine.layout().clone(), profile, natural)
        }
    };
    let profile = match &options.profile {
        Some(path) => Profile::read(path)?,
        None => profile,
    };
    let loads = options.skewed(&layout).unwrap_or(natural);
    let placement = options.place(&layout, &loads)?;
    let mut runs = Vec::new();
    for schedule in &options.schedules {
        let outcome = simulate(Config {
            layout: ModelLayout { rows: options.rows(*schedule), ..layout.clone() },
            ticks: options.ticks(),
            schedule: *schedule,
            control: ControlConfig::default(),
            placement: placement.clone(),
            profile: profile.clone(),
            gates: Gates::new(&layout, &loads, SEED),
            straggler: options.straggler.map(|(device, times)| (DeviceId(device), times)),
            workload: options.workload(),
            warm_up: options.warm_up,
            measured: options.measured,
            keep_spans: options.out.is_some(),
        })?;
        runs.push(Run {
            schedule: *schedule,
            seconds: options.measured.as_secs_f64(),
            tokens: outcome.tokens,
            requests: outcome.requests,
            gaps: outcome.gaps,
            first: outcome.first,
            records: outcome.records,
            until: outcome.until,
            paces: outcome.paces,
        });
    }
    whole(options, runs, &placement, &loads, &profile)
}

fn layout(options: &ExpertParallel, shape: &Shape) -> ModelLayout {
    let gated = SubLayerKind::Experts { experts: shape.experts, top_k: shape.top_k };
    ModelLayout {
        sub_layers: [SubLayerKind::Attention, gated].repeat(shape.layers),
        vocabulary: shape.vocabulary as usize,
        rows: options.rows(ScheduleKind::Lockstep),
        kv_blocks: KV_TOKENS / BLOCK_TOKENS,
        kv_block_tokens: BLOCK_TOKENS,
        context_length: 32_768,
    }
}
