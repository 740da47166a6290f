use std::{
    collections::HashMap,
    path::Path,
    time::{Duration, Instant},
};

use reprise_expert_parallel::{
    Cluster, ClusterConfig, Event, RequestError, RequestId, Steered, measure,
    profile::Profile,
    record::Paces,
    simulate::Gates,
    worker::greedy,
    workload::{Arrivals, Job},
};
use reprise_scheduler::{
    Backend, BackendError, CoreConfig, Finished, Moment, NewSequence, Pipeline, Placement, Priority,
    ScheduleKind, placement::Loads, schedule::ControlConfig,
};
use serde_json::Value;

use super::{
    ExpertParallel, ExpertParallelError, SEED,
    machine::{Machine, Threads, gated},
    report::{Run, whole},
};
use crate::{EngineError, gguf::Gguf, text::Vocabulary};

/// Longer than any call of a small model takes, on a machine that does other things too.
const STALL: Duration = Duration::from_secs(20);
/// Prompts whose gates are counted, and their tokens.
const COUNTED: u64 = 16;
const COUNTED_TOKENS: usize = 64;

pub(super) fn run(options: &ExpertParallel) -> Result<Value, ExpertParallelError> {
    if options.straggler.is_some() {
        return Err(ExpertParallelError::Straggler);
    }
    match options.gpus {
        None => run_on(options, &Threads::load(options)?),
        Some(gpus) => run_on_gpus(options, gpus),
    }
}

#[cfg(feature = "cuda")]
fn run_on_gpus(options: &ExpertParallel, gpus: u16) -> Result<Value, ExpertParallelError> {
    run_on(options, &super::machine::Streams::load(options, gpus)?)
}

#[cfg(not(feature = "cuda"))]
fn run_on_gpus(_: &ExpertParallel, gpus: u16) -> Result<Value, ExpertParallelError> {
    let value = format!("{gpus} GPUs");
    let supported = "the CPU (this binary was built without the feature `cuda`)";
    Err(EngineError::Unsupported { what: "devices", value, supported }.into())
}

fn run_on<M: Machine>(options: &ExpertParallel, machine: &M) -> Result<Value, ExpertParallelError> {
    gated(options, machine.layout())?;
    let natural = natural_loads(options, machine)?;
    let layout = machine.layout();
    let profile = match &options.profile {
        Some(path) => Profile::read(path)?,
        None => measured(options, machine)?,
    };
    let loads = options.skewed(layout).unwrap_or(natural);
    let placement = options.place(layout, &loads)?;
    let mut runs = Vec::new();
    for schedule in &options.schedules {
        runs.push(run_one(options, *schedule, machine, &placement, &profile)?);
    }
    whole(options, runs, &placement, &loads, &profile)
}

/// What the model's own gates choose for some prompts.
pub(super) fn natural_loads<M: Machine>(
    options: &ExpertParallel,
    machine: &M,
) -> Result<Loads, ExpertParallelError> {
    let mut counting = Steered::new(machine.device(options, ScheduleKind::Lockstep, 0)?, None);
    let layout = counting.layout().clone();
    let rows = layout.rows.min(options.ticks().max_rows);
    let config = CoreConfig { max_sequences: 1, prefill_chunk: rows, max_rows: rows };
    let mut pipeline = Pipeline::new(config, &layout)?;
    let inconsistent = |error: &dyn std::fmt::Display| EngineError::Inconsistent(error.to_string());
    let prompts = match &options.text {
        Some(path) => text(options, path)?,
        None => (0..COUNTED)
            .map(|index| options.workload().prompt(index, COUNTED_TOKENS, layout.vocabulary))
            .collect(),
    };
    for (index, mut tokens) in (0..).zip(prompts) {
        tokens.truncate(COUNTED_TOKENS.min(rows));
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

/// The text's tokens, in prompts of the length that is counted.
fn text(options: &ExpertParallel, path: &Path) -> Result<Vec<Vec<u32>>, ExpertParallelError> {
    let error = |source| ExpertParallelError::Text { path: path.to_owned(), source };
    let text = std::fs::read_to_string(path).map_err(error)?;
    let vocabulary = Vocabulary::from_gguf(&Gguf::open(Path::new(&options.model))?)?;
    Ok(vocabulary.encode(&text)?.chunks(COUNTED_TOKENS).map(<[u32]>::to_vec).collect())
}

/// The times of one device, while all others compute the same: they share caches and the way to memory.
pub(super) fn measured<M: Machine>(
    options: &ExpertParallel,
    machine: &M,
) -> Result<Profile, ExpertParallelError> {
    let name = machine.name();
    let provenance = format!(
        "measured before the runs: {name}, {} of them at once; medians of 15 calls each",
        options.devices
    );
    let devices = (0..options.devices)
        .map(|index| machine.device(options, ScheduleKind::Lockstep, index))
        .collect::<Result<Vec<_>, _>>()?;
    let measured = std::thread::scope(|scope| {
        let measure_one = |mut device: M::Device| {
            let (name, provenance) = (format!("{} on {name}", options.model), provenance.clone());
            scope.spawn(move || measure(&mut device, name, provenance))
        };
        let threads: Vec<_> = devices.into_iter().map(measure_one).collect();
        threads.into_iter().map(std::thread::ScopedJoinHandle::join).collect::<Vec<_>>()
    });
    let first = measured.into_iter().next();
    let panicked = || BackendError("a device panicked while it was measured".into());
    Ok(first.and_then(Result::ok).ok_or_else(panicked)??)
}

fn run_one<M: Machine>(
    options: &ExpertParallel,
    schedule: ScheduleKind,
    machine: &M,
    placement: &Placement,
    profile: &Profile,
) -> Result<Run, ExpertParallelError> {
    let layout = machine.layout();
    let mut devices = Vec::new();
    for index in 0..options.devices {
        let gates = options.skewed(layout).map(|loads| Gates::new(layout, &loads, SEED));
        devices.push(Steered::new(machine.device(options, schedule, index)?, gates));
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
struct Driver<'a, P: Send + 'static> {
    options: &'a ExpertParallel,
    cluster: Cluster<P>,
    vocabulary: usize,
    submitted: u64,
    /// When each arrived, and when its last token came.
    running: HashMap<RequestId, (Duration, Option<Duration>)>,
}

impl<P: Send + 'static> Driver<'_, P> {
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
        let (mut warm, mut paces) = (false, Paces::default());
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
            if warm {
                paces.add(self.cluster.pace(), looked.elapsed());
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
        Ok(Run { schedule, seconds, tokens, requests, gaps, first, records, until, paces })
    }

    fn submit(&mut self) -> Result<(), RequestError> {
        self.submitted += 1;
        let workload = self.options.workload();
        let job = match workload.arrivals {
            Arrivals::Closed(count) if self.submitted <= count as u64 => {
                workload.job_at_start(self.submitted)
            }
            Arrivals::Closed(_) | Arrivals::Poisson(_) => workload.job(self.submitted),
        };
        let Job { prompt, generate } = job;
        let prompt = workload.prompt(self.submitted, prompt, self.vocabulary);
        let id = self.cluster.submit(prompt, generate, Priority::Interactive, self.submitted)?;
        self.running.insert(id, (self.cluster.now().0, None));
        Ok(())
    }
}
