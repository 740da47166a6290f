use reprise_expert_parallel::{
    profile::{Hardware, Profile, SHAPES, Shape},
    simulate::{Config, Gates, simulate},
};
use reprise_scheduler::{DeviceId, ModelLayout, ScheduleKind, SubLayerKind, placement::Loads};
use serde_json::Value;

use super::{
    ExpertParallel, ExpertParallelError, SEED,
    drive::Sending,
    loads::ReportedLoads,
    machine::{Machine, Threads, gated},
    natural::natural_loads,
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
            let top_k = options.top_k.unwrap_or(shape.top_k);
            let layers = options.layers.map_or(shape.layers, usize::from);
            let shape = Shape { top_k, layers, ..*shape };
            let layout = layout(options, &shape);
            let even = Loads::even(&layout);
            (layout, Profile::roofline(&shape, &Hardware::H100), even)
        }
        None => {
            let machine = Threads::load(options)?;
            gated(options, machine.layout())?;
            let natural = natural_loads(options, &machine)?;
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
    // Experts are placed by the first.
    let (loads, gates) = match &options.loads {
        Some(path) => {
            let [counted, came] = ReportedLoads::read(path, &layout)?;
            (counted, Gates::with_shares(&layout, &came, SEED))
        }
        None => {
            let loads = options.skewed(&layout).unwrap_or(natural);
            let gates = Gates::new(&layout, &loads, SEED);
            (loads, gates)
        }
    };
    let mut runs = Vec::new();
    let of = |repeat| options.variants.iter().map(move |variant| (repeat, variant));
    for (repeat, variant) in (0..options.repeats.get()).flat_map(of) {
        let schedule = variant.schedule;
        let replicas = variant.replicas.unwrap_or(options.replicas);
        let placement = options.place(&layout, &loads, replicas)?;
        let outcome = simulate(Config {
            layout: ModelLayout { rows: options.rows(schedule), ..layout.clone() },
            ticks: options.ticks(),
            schedule,
            control: options.control(),
            placement,
            profile: profile.clone(),
            gates: gates.clone(),
            processors: options.processors(),
            straggler: options.straggler.map(|(device, times)| (DeviceId(device), times)),
            workload: options.workload(),
            warm_up: options.warm_up(schedule),
            measured: options.measured(schedule),
            seed: repeat as u64,
            keep_spans: options.out.is_some(),
        })?;
        runs.push(Run {
            variant: *variant,
            repeat,
            seconds: options.measured(schedule).as_secs_f64(),
            tokens: outcome.tokens,
            tenths: [0; 10],
            requests: outcome.requests,
            gaps: outcome.gaps,
            first: outcome.first,
            records: outcome.records,
            until: outcome.until,
            modes: outcome.modes,
            sending: Sending::default(),
        });
    }
    let placement = options.place(&layout, &loads, options.replicas)?;
    whole(options, &profile.name, runs, &placement, &loads, &profile)
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
