use std::{
    collections::HashMap,
    num::NonZeroUsize,
    path::Path,
    time::{Duration, Instant},
};

use reprise_expert_parallel::{
    Cluster, ClusterConfig, Event, RequestError, RequestId, Steered, measure, profile::Profile,
    simulate::Gates, worker::greedy, workload::Arrivals,
};
use reprise_kernels::attention::{BLOCK_TOKENS, KvFormat};
use reprise_scheduler::{
    Backend, CoreConfig, Finished, Moment, NewSequence, Pace, Pipeline, Placement, Priority, ScheduleKind,
    SubLayerKind, placement::Loads, schedule::ControlConfig,
};
use serde_json::Value;

use super::{
    ExpertParallel, ExpertParallelError, SEED,
    report::{Run, whole},
};
use crate::{
    EngineError,
    backend::{CpuBackend, CpuOptions},
    loader::Checkpoint,
};

/// Longer than any call of a small model takes, on a machine that does other things too.
const STALL: Duration = Duration::from_secs(20);
/// Prompts whose gates are counted, and their tokens.
const COUNTED: u64 = 16;
const COUNTED_TOKENS: usize = 64;

pub(super) fn run(options: &ExpertParallel) -> Result<Value, ExpertParallelError> {
    let mut device = device(options)?;
    let natural = natural_loads(options, &device)?;
    let layout = device.layout().clone();
    let profile = match &options.profile {
        Some(path) => Profile::read(path)?,
        None => measured(options, &mut device)?,
    };
    let loads = options.skewed(&layout).unwrap_or(natural);
    let placement = options.place(&layout, &loads)?;
    let mut runs = Vec::new();
    for schedule in &options.schedules {
        runs.push(run_one(options, *schedule, &device, &placement, &profile)?);
    }
    whole(options, runs, &placement, &loads, &profile)
}

/// The model on one device of one thread, with room for the rows of all.
pub(super) fn device(options: &ExpertParallel) -> Result<CpuBackend, ExpertParallelError> {
    let mut checkpoint = checkpoint(options)?;
    let device = CpuBackend::load(&mut checkpoint, &cpu_options(options), &mut |_| {}, &|| false)?;
    let gated = device.layout().sub_layers.iter().any(|kind| matches!(kind, SubLayerKind::Experts { .. }));
    if gated { Ok(device) } else { Err(ExpertParallelError::Dense(options.model.clone())) }
}

fn checkpoint(options: &ExpertParallel) -> Result<Checkpoint, ExpertParallelError> {
    if options.top_k.is_some() {
        return Err(ExpertParallelError::TopK(options.model.clone()));
    }
    Ok(match options.model.strip_prefix("random:") {
        Some(shape) => Checkpoint::random(shape)?,
        None => Checkpoint::open(Path::new(&options.model))?,
    })
}

fn cpu_options(options: &ExpertParallel) -> CpuOptions {
    let blocks = options.longest().div_ceil(BLOCK_TOKENS) + 1;
    CpuOptions {
        threads: NonZeroUsize::MIN,
        rows: options.attention() * options.ticks().max_rows,
        kv_blocks: blocks * options.batch.get(),
        kv_format: KvFormat::F32,
        context_length: None,
    }
}

/// What the model's own gates choose for some prompts.
pub(super) fn natural_loads(
    options: &ExpertParallel,
    device: &CpuBackend,
) -> Result<Loads, ExpertParallelError> {
    let mut counting = Steered::new(device.sibling(&cpu_options(options))?, None);
    let layout = counting.layout().clone();
    let rows = layout.rows.min(options.ticks().max_rows);
    let config = CoreConfig { max_sequences: 1, prefill_chunk: rows, max_rows: rows };
    let mut pipeline = Pipeline::new(config, &layout)?;
    let inconsistent = |error: &dyn std::fmt::Display| EngineError::Inconsistent(error.to_string());
    for index in 0..COUNTED {
        let mut tokens = options.workload().prompt(index, layout.vocabulary);
        tokens.truncate(COUNTED_TOKENS);
        let (priority, deadline) = (Priority::Interactive, None);
        let new = NewSequence { tokens, max_new: 1, priority, deadline, scope: index, greedy: false };
        let id = pipeline.start(new).map_err(|error| inconsistent(&error))?;
        let mut out = Finished::default();
        while out.ready().next().is_none() {
            pipeline
                .turn(&mut counting, Moment::default(), &mut out)
                .map_err(|error| inconsistent(&error))?;
        }
        pipeline.end(id);
    }
    // Experts that none of these prompts chose are not free of load.
    let counted = counting.loads();
    Ok(Loads::with(&layout, |at, expert, _| counted.experts(at)[usize::from(expert)] + 1.0))
}

pub(super) fn measured(
    options: &ExpertParallel,
    device: &mut CpuBackend,
) -> Result<Profile, ExpertParallelError> {
    let cores = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
    let provenance =
        format!("measured before the runs: one thread of a CPU of {cores} cores, medians of 15 calls each");
    Ok(measure(device, format!("{} on one CPU thread", options.model), provenance)?)
}

fn run_one(
    options: &ExpertParallel,
    schedule: ScheduleKind,
    device: &CpuBackend,
    placement: &Placement,
    profile: &Profile,
) -> Result<Run, ExpertParallelError> {
    let layout = device.layout();
    let mut devices = Vec::new();
    for _ in 0..options.devices {
        let gates = options.skewed(layout).map(|loads| Gates::new(layout, &loads, SEED));
        devices.push(Steered::new(device.sibling(&cpu_options(options))?, gates));
    }
    let config = ClusterConfig {
        ticks: options.ticks(),
        schedule,
        costs: profile.costs(),
        control: ControlConfig::default(),
        placement: placement.clone(),
        replan: None,
        stall: STALL,
        keep_spans: options.out.is_some(),
    };
    let cluster = Cluster::start(devices, config, greedy)?;
    Driver { options, cluster, vocabulary: layout.vocabulary, submitted: 0, running: HashMap::new() }
        .run(schedule)
}

/// Sends a workload to a cluster and takes down what comes.
struct Driver<'a> {
    options: &'a ExpertParallel,
    cluster: Cluster<Vec<f32>>,
    vocabulary: usize,
    submitted: u64,
    /// When each arrived, and when its last token came.
    running: HashMap<RequestId, (Duration, Option<Duration>)>,
}

impl Driver<'_> {
    fn run(mut self, schedule: ScheduleKind) -> Result<Run, ExpertParallelError> {
        let (warm_up, measured) = (self.options.warm_up, self.options.measured);
        let mut next = Some(Duration::ZERO);
        if let Arrivals::Closed(sequences) = self.options.arrivals {
            next = None;
            for _ in 0..sequences {
                self.submit()?;
            }
        }
        let begun = Instant::now();
        let begin = self.cluster.now().0;
        let (mut warm, mut free) = (false, Duration::ZERO);
        let (mut tokens, mut requests, mut gaps, mut first) = (0, 0, Vec::new(), Vec::new());
        let mut looked = begun;
        while begun.elapsed() < warm_up + measured {
            while next.is_some_and(|next| begun.elapsed() >= next) {
                self.submit()?;
                let gap = self.options.workload().gap(self.submitted);
                next = next.zip(gap).map(|(next, gap)| next + gap);
            }
            if !warm && begun.elapsed() >= warm_up {
                warm = true;
                self.cluster.reset_records();
            }
            let wait = next.map_or(Duration::from_millis(5), |next| next.saturating_sub(begun.elapsed()));
            let events = self.cluster.poll(wait.min(Duration::from_millis(5)));
            if warm && self.cluster.pace() == Pace::Free {
                free += looked.elapsed();
            }
            looked = Instant::now();
            for event in events {
                let Event::Token { request, last, at, .. } = event else {
                    let Event::Failed { error, .. } = event else { continue };
                    return Err(error.into());
                };
                let Some((arrived, before)) = self.running.get_mut(&request) else { continue };
                if warm && at >= begin + warm_up {
                    tokens += 1;
                    requests += u64::from(last);
                    match before {
                        Some(before) => gaps.push(at.saturating_sub(*before).as_secs_f64()),
                        None => first.push(at.saturating_sub(*arrived).as_secs_f64()),
                    }
                }
                *before = Some(at);
                if last {
                    self.running.remove(&request);
                    if let Arrivals::Closed(_) = self.options.arrivals {
                        self.submit()?;
                    }
                }
            }
        }
        let until = self.cluster.now();
        let seconds = (begun.elapsed().saturating_sub(warm_up)).as_secs_f64();
        let records = self.cluster.stop().into_iter().flatten().collect();
        let free_share = free.as_secs_f64() / seconds.max(f64::MIN_POSITIVE);
        Ok(Run { schedule, seconds, tokens, requests, gaps, first, records, until, free_share })
    }

    fn submit(&mut self) -> Result<(), RequestError> {
        self.submitted += 1;
        let workload = self.options.workload();
        let prompt = workload.prompt(self.submitted, self.vocabulary);
        let generate = workload.job(self.submitted).generate;
        let id = self.cluster.submit(prompt, generate, Priority::Interactive, self.submitted)?;
        self.running.insert(id, (self.cluster.now().0, None));
        Ok(())
    }
}
