//! Whether devices that share a model compute what one of them computes alone, bit for bit, whatever the schedule, and whether anything is
//! left behind when requests are cancelled or a device fails: what must hold on a machine before it is measured there.

mod judge;
mod run;

use std::{
    num::NonZeroUsize,
    sync::mpsc::SyncSender,
    time::{Duration, Instant},
};

use reprise_expert_parallel::workload::{Arrivals, LENGTHS};
use reprise_scheduler::{ScheduleKind, placement::Roles, schedule::ControlConfig};

use super::{
    ExpertParallel, ExpertParallelError,
    machine::{Loaded, Machine},
    variant::Variant,
};
use crate::{DeviceKind, EngineError};
use run::Job;

/// No check takes so long.
const LATE: Duration = Duration::from_secs(20);
/// A device that has not moved for so long is lost.
const STALL: Duration = Duration::from_secs(5);
/// KV for two of the requests at once, so that others are preempted.
const KV_BLOCKS: usize = 6;
/// Calls of the device that is to fail.
const CALLS: usize = 30;

/// The outcome of one check.
#[derive(Debug, Clone)]
pub struct Checked {
    pub name: String,
    /// What was wrong; none: nothing was.
    pub wrong: Option<String>,
    pub seconds: f64,
    /// What was looked at.
    pub seen: String,
}

/// Checks a model on these devices, and tells each outcome as it comes.
///
/// # Errors
/// The model does not load, or does not fit the devices. What a check finds is no error.
pub fn check_expert_parallel(
    model: &str,
    devices: &[DeviceKind],
    tell: &SyncSender<Checked>,
) -> Result<(), ExpertParallelError> {
    let small = |count| NonZeroUsize::new(count).unwrap_or(NonZeroUsize::MIN);
    let options = ExpertParallel {
        variants: Vec::new(),
        devices: devices.to_vec(),
        roles: Roles::Shared,
        model: model.to_owned(),
        layers: None,
        top_k: None,
        skew: None,
        text: None,
        loads: None,
        experts_per_group: 1,
        replicas: 0,
        lengths: LENGTHS[1],
        arrivals: Arrivals::Closed(1),
        batch: small(4),
        prefill_chunk: small(24),
        kv_blocks: Some(KV_BLOCKS),
        repeats: NonZeroUsize::MIN,
        warm_up: Duration::ZERO,
        measured: Duration::ZERO,
        turn: None,
        adaptive_warm_up: Duration::ZERO,
        adaptive_measured: Duration::from_secs(1),
        control_window: ControlConfig::default().window,
        simulate: false,
        straggler: None,
        profile: None,
        out: None,
        details: false,
    };
    match Loaded::new(&options)? {
        Loaded::Threads(threads, _) => check_on(&options, &*threads, tell),
        #[cfg(feature = "cuda")]
        Loaded::Streams(streams, _) => check_on(&options, &streams, tell),
    }
}

struct Setting<'a> {
    roles: Roles,
    variant: Variant,
    greedy: bool,
    /// The last device fails after so many calls.
    fails: Option<usize>,
    jobs: &'a [Job],
}

fn check_on<M: Machine>(
    options: &ExpertParallel,
    machine: &M,
    tell: &SyncSender<Checked>,
) -> Result<(), ExpertParallelError> {
    let jobs = run::jobs(machine.layout().vocabulary);
    let begun = Instant::now();
    let expected = run::alone(options, machine, &jobs)?;
    // Who reads may have given up.
    let told = |checked| tell.send(checked).map_err(|_| EngineError::Stopped);
    let seen = format!("{} on {} devices", machine.name(), options.count());
    let name = format!("{}, loaded and computed alone", options.model);
    told(Checked { name, wrong: None, seconds: begun.elapsed().as_secs_f64(), seen })?;
    let plain = |schedule| Variant { schedule, replicas: None };
    let copied = |schedule| Variant { schedule, replicas: Some(2) };
    let mut settings = Vec::new();
    let setting = |roles, variant| Setting { roles, variant, greedy: false, fails: None, jobs: &jobs };
    for roles in [Roles::Disjoint { attention: 1 }, Roles::Shared] {
        settings.extend(ScheduleKind::ALL.map(|schedule| setting(roles, plain(schedule))));
        let greedy = [ScheduleKind::Lockstep, ScheduleKind::Adaptive];
        settings.extend(greedy.map(|schedule| Setting { greedy: true, ..setting(roles, plain(schedule)) }));
        if roles == Roles::Shared {
            let copied = [ScheduleKind::Lockstep, ScheduleKind::Defrag].map(copied);
            settings.extend(copied.map(|variant| setting(roles, variant)));
        }
        let failing = [ScheduleKind::Lockstep, ScheduleKind::Roofline];
        let fails = Some(CALLS);
        settings.extend(failing.map(|schedule| Setting { fails, ..setting(roles, plain(schedule)) }));
    }
    for setting in settings {
        let begun = Instant::now();
        let outcome = run::run(options, machine, &setting)?;
        let (seen, wrong) = judge::judge(&setting, &outcome, &expected);
        let roles = if setting.roles == Roles::Shared { "shared" } else { "1+1" };
        let greedy = if setting.greedy { ", the device chooses" } else { "" };
        let fails = if setting.fails.is_some() { ", a device fails" } else { "" };
        let name = format!("{}, {roles}, {}{greedy}{fails}", options.model, setting.variant);
        told(Checked { name, wrong, seconds: begun.elapsed().as_secs_f64(), seen })?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::sync_channel;

    use super::*;

    #[test]
    fn two_threads_pass() {
        let (tell, told) = sync_channel(256);
        check_expert_parallel("random:mixtral-tiny", &[DeviceKind::Cpu; 2], &tell).expect("runs");
        let found: Vec<Checked> = told.try_iter().collect();
        assert!(found.len() > 20, "{}", found.len());
        for checked in &found {
            assert!(checked.wrong.is_none(), "{checked:?}");
        }
    }
}
