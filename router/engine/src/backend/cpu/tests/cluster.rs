//! A model on two CPU devices: the logits of every schedule are those of one device in lock-step, bit for bit.

use std::{
    collections::HashMap,
    hash::{DefaultHasher, Hash, Hasher},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use proptest::prelude::*;
use reprise_expert_parallel::{Cluster, ClusterConfig, Event, RequestId, worker::Choose};
use reprise_scheduler::{
    CoreConfig, DeviceId, Finished, Moment, NewSequence, Pipeline, Priority, ScheduleKind,
    placement::{Demand, Greedy, Loads, Planner, Roles},
    schedule::{ControlConfig, Cost, StageCosts},
};

use super::*;
use crate::testing::small_model;

const TICKS: CoreConfig = CoreConfig { max_sequences: 4, prefill_chunk: 24, max_rows: 28 };

#[derive(Debug, Clone)]
struct Job {
    prompt: Vec<u32>,
    max_new: usize,
    /// Cancelled after so many tokens of all jobs.
    cancel_after: Option<usize>,
}

/// The logits of each step of a request, as hashes of their bits, and the token that was chosen.
type Steps = Vec<(u64, u32)>;

fn step(logits: &[f32]) -> (u64, u32) {
    let mut hasher = DefaultHasher::new();
    logits.iter().for_each(|logit| logit.to_bits().hash(&mut hasher));
    let best = (0..logits.len()).fold(0, |best, id| if logits[id] > logits[best] { id } else { best });
    (hasher.finish(), u32::try_from(best).expect("small"))
}

fn cpu_options(devices: usize, kv_blocks: usize) -> CpuOptions {
    CpuOptions { rows: devices * TICKS.max_rows, kv_blocks, ..options(1, KvFormat::F32) }
}

/// One device, one sequence after the other.
fn alone(model: &CpuBackend, jobs: &[Job]) -> Vec<Steps> {
    let mut backend = model.sibling(&cpu_options(1, 12)).expect("a device");
    let run = |job: &Job| {
        let mut pipeline = Pipeline::new(TICKS, backend.layout()).expect("valid");
        let new = NewSequence {
            tokens: job.prompt.clone(),
            max_new: job.max_new,
            priority: Priority::Interactive,
            deadline: None,
            scope: 0,
            greedy: false,
        };
        let id = pipeline.start(new).expect("fits");
        let (mut steps, mut out) = (Vec::new(), Finished::default());
        while steps.len() < job.max_new {
            pipeline.turn(&mut backend, Moment::default(), &mut out).expect("computes");
            for (_, logits) in out.each_mut() {
                steps.push(step(logits));
            }
            if out.ready().next().is_some() {
                pipeline.push(id, steps.last().expect("one").1);
            }
        }
        steps
    };
    jobs.iter().map(run).collect()
}

/// Calls for which it pays to wait a little for more rows.
fn costs() -> StageCosts {
    let cost = Cost::roofline(1e-4, 2e-4, 1e-6);
    StageCosts { attention: cost, gate: cost, expert: cost, head: cost, ..StageCosts::default() }
}

fn cluster(
    model: &CpuBackend,
    schedule: ScheduleKind,
    roles: Roles,
    kv_blocks: usize,
    jobs: &[Job],
) -> Vec<(Steps, bool)> {
    let attention = if roles == Roles::Shared { 2 } else { 1 };
    let lanes = usize::from(schedule.lanes());
    let device = || model.sibling(&cpu_options(attention * lanes, kv_blocks)).expect("a device");
    let devices = vec![device(), device()];
    let layout = devices[0].layout().clone();
    let loads = Loads::even(&layout);
    let demand = Demand {
        layout: &layout,
        devices: &[DeviceId(0), DeviceId(1)],
        roles,
        experts_per_group: 1,
        replicas: 0,
        loads: &loads,
    };
    let config = ClusterConfig {
        ticks: TICKS,
        schedule,
        costs: costs(),
        control: ControlConfig::restless(Duration::from_millis(4)),
        placement: Greedy.place(&demand).expect("fits"),
        replan: None,
        stall: Duration::from_secs(20),
        spin: reprise_expert_parallel::transport::SPIN,
        greedy: false,
        compare: None,
        keep_spans: false,
    };
    let all: Arc<Mutex<HashMap<RequestId, Steps>>> = Arc::default();
    let choose = || -> Choose {
        let all = Arc::clone(&all);
        Box::new(move |request, logits| {
            let step = step(logits);
            all.lock().expect("whole").entry(request).or_default().push(step);
            Some(step.1)
        })
    };
    let mut cluster = Cluster::start(devices, config, choose).expect("starts");
    let submit = |(i, job): (usize, &Job)| {
        let scope = u64::try_from(i % 2).expect("small");
        cluster.submit(job.prompt.clone(), job.max_new, Priority::Interactive, scope).expect("fits")
    };
    let ids: Vec<_> = jobs.iter().enumerate().map(submit).collect();
    let mut over: HashMap<RequestId, bool> = HashMap::new();
    let (late, mut tokens) = (Instant::now() + Duration::from_secs(120), 0);
    while over.len() < jobs.len() {
        assert!(Instant::now() < late, "{schedule}: no end in sight");
        for event in cluster.poll(Duration::from_millis(2)) {
            match event {
                Event::Token { request, last, .. } => {
                    tokens += 1;
                    if last {
                        over.insert(request, true);
                    }
                }
                Event::Failed { error, .. } => panic!("{schedule}: {error}"),
            }
        }
        for (id, job) in ids.iter().zip(jobs) {
            if !over.contains_key(id) && job.cancel_after.is_some_and(|after| tokens >= after) {
                cluster.cancel(*id);
                over.insert(*id, false);
            }
        }
    }
    while (0..2).any(|device| cluster.held_blocks(DeviceId(device)) > 0) {
        assert!(Instant::now() < late, "{schedule}: KV is held after the end");
        cluster.poll(Duration::from_millis(2));
    }
    cluster.stop();
    let mut all = all.lock().expect("whole");
    ids.iter().map(|id| (all.remove(id).unwrap_or_default(), over[id])).collect()
}

/// Compares each schedule's logits with those of one device.
fn compare(model: &CpuBackend, roles: Roles, kv_blocks: usize, jobs: &[Job]) {
    let expected = alone(model, jobs);
    for schedule in ScheduleKind::ALL {
        let found = cluster(model, schedule, roles, kv_blocks, jobs);
        for ((steps, finished), expected) in found.iter().zip(&expected) {
            if *finished {
                assert_eq!(steps, expected, "{schedule}");
            } else {
                assert!(expected.starts_with(steps), "{schedule}");
            }
        }
    }
}

fn jobs(vocabulary: u32) -> impl Strategy<Value = Vec<Job>> {
    let prompt = prop::collection::vec(0..vocabulary, 1..50);
    let one = (prompt, 1usize..25, prop::option::weighted(0.25, 0usize..60));
    let job = |(prompt, max_new, cancel_after)| Job { prompt, max_new, cancel_after };
    prop::collection::vec(one.prop_map(job), 1..7)
}

fn tiny(name: &str) -> CpuBackend {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/tiny").join(name);
    backend(Checkpoint::open(&folder).expect("opens"), &options(1, KvFormat::F32))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3, ..ProptestConfig::default() })]

    /// Four blocks hold one sequence of the longest, so that others are preempted.
    #[test]
    fn two_devices_have_the_bits_of_one(jobs in jobs(60), kv_blocks in 4usize..9, disjoint in any::<bool>()) {
        let roles = if disjoint { Roles::Disjoint { attention: 1 } } else { Roles::Shared };
        for name in ["mixtral", "qwen2-moe", "olmoe"] {
            compare(&tiny(name), roles, kv_blocks, &jobs);
        }
    }
}

/// The small model itself, upcycled: 8-bit activations, real gates.
#[test]
fn the_small_model_on_two_devices_has_the_bits_of_one() {
    let folder = tempfile::tempdir().expect("folder");
    let file = folder.path().join("moe.gguf");
    let options = reprise_upcycle::Upcycle {
        layers: "every:5".parse().expect("layers"),
        experts: 4,
        top_k: 2,
        seed: 5,
    };
    reprise_upcycle::upcycle(&small_model(), &file, &options, &mut |_, _| {}).expect("upcycles");
    let model = backend(Checkpoint::open(&file).expect("opens"), &super::options(1, KvFormat::F32));
    let job = |i: u32| Job {
        prompt: (0..6 + i * 5).map(|t| 500 + t * 31 + i).collect(),
        max_new: 5,
        cancel_after: None,
    };
    let jobs: Vec<_> = (0..4).map(job).collect();
    compare(&model, Roles::Shared, 6, &jobs);
}
