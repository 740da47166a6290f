use std::{
    collections::HashMap,
    hash::{DefaultHasher, Hash, Hasher},
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use reprise_expert_parallel::{Cluster, ClusterConfig, Event, RequestId, worker::Choose};
use reprise_scheduler::{
    Backend, BackendError, Before, DeviceId, Faulty, Finished, Moment, NewSequence, Pipeline, Priority,
    ScheduleKind,
    placement::Loads,
    schedule::{ControlConfig, Cost, StageCosts},
};

use super::{
    super::{ExpertParallel, ExpertParallelError, machine::Machine},
    LATE, STALL, Setting,
};
use crate::EngineError;

/// A request, and after how many tokens of all it is cancelled.
#[derive(Debug, Clone)]
pub(super) struct Job {
    pub(super) prompt: Vec<u32>,
    pub(super) max_new: usize,
    pub(super) cancel_after: Option<usize>,
}

/// The logits of a token as a hash of their bits, and the token. No logits: the device chose.
pub(super) type Step = (Option<u64>, u32);
pub(super) type Steps = Vec<Step>;

/// Of several lengths, one longer than a chunk of prefill, some cancelled.
pub(super) fn jobs(vocabulary: usize) -> Vec<Job> {
    let job = |i: usize| Job {
        prompt: (0..1 + i * 11 % 50)
            .map(|t| u32::try_from((t * 7919 + i * 104_729 + 11) % vocabulary).unwrap_or(0))
            .collect(),
        max_new: 4 + i * 5 % 19,
        cancel_after: (i % 4 == 3).then_some(10 * i),
    };
    (0..8).map(job).collect()
}

fn step(logits: &[f32]) -> Step {
    let mut hasher = DefaultHasher::new();
    logits.iter().for_each(|logit| logit.to_bits().hash(&mut hasher));
    let best = (0..logits.len()).fold(0, |best, id| if logits[id] > logits[best] { id } else { best });
    (Some(hasher.finish()), u32::try_from(best).unwrap_or(u32::MAX))
}

/// One device, one sequence after the other.
pub(super) fn alone<M: Machine>(
    options: &ExpertParallel,
    machine: &M,
    jobs: &[Job],
) -> Result<Vec<Steps>, ExpertParallelError> {
    let room = ExpertParallel { kv_blocks: None, ..options.clone() };
    let mut backend = machine.device(&room, ScheduleKind::Lockstep, 0)?;
    let inconsistent = |error: &dyn std::fmt::Display| EngineError::Inconsistent(error.to_string());
    let mut all = Vec::new();
    for job in jobs {
        let mut pipeline = Pipeline::new(options.ticks(), backend.layout())?;
        let new = NewSequence {
            tokens: job.prompt.clone(),
            max_new: job.max_new,
            priority: Priority::Interactive,
            deadline: None,
            scope: 0,
            greedy: false,
        };
        let id = pipeline.start(new).map_err(|error| inconsistent(&error))?;
        let (mut steps, mut out) = (Steps::new(), Finished::default());
        while steps.len() < job.max_new {
            pipeline.turn(&mut backend, Moment::default(), &mut out).map_err(|error| inconsistent(&error))?;
            for (_, logits) in out.each_mut() {
                steps.push(step(logits));
            }
            if let (Some(_), Some((_, token))) = (out.ready().next(), steps.last()) {
                pipeline.push(id, *token);
            }
        }
        all.push(steps);
    }
    Ok(all)
}

/// How the requests went, and what was left.
pub(super) struct Outcome {
    pub(super) steps: Vec<Steps>,
    /// By request: ended, cancelled, or what was wrong.
    pub(super) ends: Vec<Option<Result<bool, String>>>,
    /// KV blocks that living devices still hold.
    pub(super) held: usize,
    pub(super) lost: usize,
}

/// None: it never fails.
fn after_calls(mut left: Option<usize>) -> Before {
    Box::new(move || {
        if let Some(left) = &mut left {
            *left = left.checked_sub(1).ok_or_else(|| BackendError("failed as told".into()))?;
        }
        Ok(())
    })
}

pub(super) fn run<M: Machine>(
    options: &ExpertParallel,
    machine: &M,
    setting: &Setting<'_>,
) -> Result<Outcome, ExpertParallelError> {
    let Setting { roles, variant, greedy, fails, jobs } = *setting;
    let options = ExpertParallel { roles, ..options.clone() };
    let last = options.devices.len().saturating_sub(1);
    let faulty = |(at, device)| Faulty::new(device, after_calls(fails.filter(|_| at == last)));
    let devices: Vec<_> =
        machine.devices(&options, variant.schedule)?.into_iter().enumerate().map(faulty).collect();
    let layout = machine.layout();
    let cost = Cost::roofline(1e-4, 2e-4, 1e-6);
    let config = ClusterConfig {
        ticks: options.ticks(),
        schedule: variant.schedule,
        costs: StageCosts { attention: cost, gate: cost, expert: cost, head: cost, ..StageCosts::default() },
        control: ControlConfig::restless(Duration::from_millis(4)),
        placement: options.place(layout, &Loads::even(layout), variant.replicas.unwrap_or(0))?,
        replan: None,
        stall: STALL,
        spin: machine.spin(),
        greedy,
        compare: None,
        keep_spans: false,
    };
    let all: Arc<Mutex<HashMap<RequestId, Steps>>> = Arc::default();
    let choose = || -> Choose {
        let all = Arc::clone(&all);
        Box::new(move |request, logits| {
            let step = step(logits);
            all.lock().entry(request).or_default().push(step);
            Some(step.1)
        })
    };
    let mut cluster = Cluster::start(devices, config, choose)?;
    let mut ids = Vec::new();
    for (scope, job) in (0..).zip(jobs) {
        ids.push(cluster.submit(job.prompt.clone(), job.max_new, Priority::Interactive, scope % 2)?);
    }
    let (late, mut count) = (Instant::now() + LATE, 0);
    let mut ends: Vec<Option<Result<bool, String>>> = vec![None; jobs.len()];
    let mut told: Vec<Steps> = vec![Steps::new(); jobs.len()];
    while ends.iter().any(Option::is_none) && Instant::now() < late {
        for event in cluster.poll(Duration::from_millis(2)) {
            let (request, end) = match event {
                Event::Token { request, token, last, .. } => {
                    count += 1;
                    if let (Some(at), Some(token)) = (ids.iter().position(|id| *id == request), token) {
                        told[at].push((None, token));
                    }
                    (request, last.then_some(Ok(true)))
                }
                Event::Failed { request, error } => (request, Some(Err(error.to_string()))),
            };
            if let (Some(at), Some(end)) = (ids.iter().position(|id| *id == request), end) {
                ends[at] = Some(end);
            }
        }
        for (at, job) in jobs.iter().enumerate() {
            if ends[at].is_none() && job.cancel_after.is_some_and(|after| count >= after) {
                cluster.cancel(ids[at]);
                ends[at] = Some(Ok(false));
            }
        }
    }
    let lost: Vec<_> = cluster.lost().iter().map(|lost| lost.device).collect();
    let held = |cluster: &Cluster<_>| {
        let living = (0..options.count()).map(DeviceId).filter(|device| !lost.contains(device));
        living.map(|device| cluster.held_blocks(device)).sum::<usize>()
    };
    while held(&cluster) > 0 && Instant::now() < late {
        cluster.poll(Duration::from_millis(2));
    }
    let held = held(&cluster);
    cluster.stop();
    let mut all = all.lock();
    let steps = ids
        .iter()
        .zip(told)
        .map(|(id, told)| if greedy { told } else { all.remove(id).unwrap_or_default() })
        .collect();
    Ok(Outcome { steps, ends, held, lost: lost.len() })
}
