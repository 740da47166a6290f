use std::{num::NonZeroUsize, time::Duration};

use reprise_expert_parallel::{
    Cluster, ClusterConfig, Steered, measure_reuse, measure_up_to,
    profile::Profile,
    record::{self, Record},
    simulate::Gates,
    with_latency,
    worker::{Compare, greedy},
    workload::LENGTHS,
};
use reprise_scheduler::{BackendError, Exchange, Mode, Pace, Placement, ScheduleKind, placement::Loads};
use serde_json::{Value, json};

use super::{
    ExpertParallel, ExpertParallelError, SEED,
    drive::{Driver, Sending},
    link::link,
    loads::ReportedLoads,
    machine::{Machine, gated},
    natural::natural_loads,
    report::{Run, whole},
    turns::{self, Contenders},
};

/// Longer than any call of a small model takes, on a machine that does other things too.
const STALL: Duration = Duration::from_secs(20);

/// What is left out before calls are looked at between turns.
const FIRST_TICKS: Duration = Duration::from_millis(400);
/// How long they are looked at, in turns.
const BETWEEN_TURNS: f64 = 1.2;
/// What devices do in a look, each for as long: calls are small; calls of several devices go on at once; they are the largest, and rows in order
/// afterwards.
const LOOKS: [Pace; 3] = [Pace::Defrag, Pace::PingPong, Pace::Lockstep];

/// What is measured of a model once.
#[derive(Debug, Default)]
pub(super) struct Known {
    /// And whether its gates were told what to choose.
    profile: Option<(bool, Profile)>,
    natural: Option<(Option<std::path::PathBuf>, Loads)>,
    link: Option<Value>,
}

pub(super) fn run_on<M: Machine>(
    options: &ExpertParallel,
    machine: &M,
    known: &mut Known,
) -> Result<Value, ExpertParallelError> {
    gated(options, machine.layout())?;
    let natural = match &known.natural {
        Some((text, loads)) if *text == options.text => loads.clone(),
        _ => natural_loads(options, machine)?,
    };
    known.natural = Some((options.text.clone(), natural.clone()));
    let layout = machine.layout();
    let profile = match (&options.profile, &known.profile) {
        (Some(path), _) => Profile::read(path)?,
        (None, Some((told, profile))) if *told == options.skew.is_some() => profile.clone(),
        (None, _) => measured(options, machine)?,
    };
    known.profile = Some((options.skew.is_some(), profile.clone()));
    let way = match known.link.take() {
        Some(way) => way,
        None => link(options, machine)?,
    };
    known.link = Some(way.clone());
    let loads = options.skewed(layout).unwrap_or(natural);
    if let Some(each) = options.turn {
        let contenders = Contenders::of(&options.variants, options.replicas)?;
        let placement = options.place(layout, &loads, contenders.replicas)?;
        let compare = compare_with(options, &profile);
        let looks = compare.is_some();
        let cluster = start(options, ScheduleKind::Adaptive, machine, &placement, &profile, compare)?;
        let mut driver = Driver::start(options, cluster, layout.vocabulary)?;
        if looks {
            settle(&mut driver)?;
        }
        // By the same threads, wherever they happen to run; and now and then, as what else the machine does changes from second to second.
        let between = |driver: &mut Driver<'_, _>| {
            if looks { look_at_calls(driver, each.mul_f64(BETWEEN_TURNS)) } else { Ok(()) }
        };
        let (turns, gaps) = turns::take(options, &contenders, &mut driver, each, between)?;
        let sending = driver.sending();
        let records = driver.stop();
        let profile = as_seen(profile, &records, sending);
        let mut report = whole(options, &machine.name(), Vec::new(), &placement, &loads, &profile)?;
        (report["turns"], report["inter_token_ms"], report["way"]) = (json!(turns), gaps, way);
        report["loads"] = json!(ReportedLoads::of(options, layout, &loads, &records));
        return Ok(report);
    }
    let mut runs = Vec::new();
    for repeat in 0..options.repeats.get() {
        let mut variants = options.variants.clone();
        // Whatever goes before another leaves it the machine as it is: none is always first.
        let first = repeat % variants.len().max(1);
        variants.rotate_left(first);
        for variant in variants {
            let replicas = variant.replicas.unwrap_or(options.replicas);
            let placement = options.place(layout, &loads, replicas)?;
            let compare = compare_with(options, &profile);
            let cluster = start(options, variant.schedule, machine, &placement, &profile, compare)?;
            runs.push(Driver::start(options, cluster, layout.vocabulary)?.run(variant, repeat)?);
        }
    }
    let sending = Sending::mean(&runs.iter().map(|run: &Run| run.sending).collect::<Vec<_>>());
    let profile = as_seen(profile, runs.iter().flat_map(|run| &run.records), sending);
    let placement = options.place(layout, &loads, options.replicas)?;
    let reported = ReportedLoads::of(options, layout, &loads, runs.iter().flat_map(|run| &run.records));
    let mut report = whole(options, &machine.name(), runs, &placement, &loads, &profile)?;
    (report["way"], report["loads"]) = (way, json!(reported));
    Ok(report)
}

/// The times of one device, while all others with a processor of their own compute the same: they share caches and the way to memory.
pub(super) fn measured<M: Machine>(
    options: &ExpertParallel,
    machine: &M,
) -> Result<Profile, ExpertParallelError> {
    let name = machine.name();
    let processors = options.processors();
    let alone = |at: &usize| processors[..*at].iter().all(|before| *before != processors[*at]);
    let measured: Vec<_> = (0..processors.len()).filter(alone).collect();
    let provenance = format!("measured before the runs: {name}, {} of them at once", measured.len());
    let many = machine.many();
    // Rows, block tables and KV for the largest call.
    let room = ExpertParallel {
        lengths: LENGTHS[2],
        batch: options.batch.max(NonZeroUsize::new(many).unwrap_or(options.batch)),
        prefill_chunk: options.prefill_chunk.saturating_add(many),
        kv_blocks: Some(4 * many),
        ..options.clone()
    };
    let devices = (0..options.count())
        .filter(|index| measured.contains(&usize::from(*index)))
        .map(|index| machine.device(&room, ScheduleKind::Lockstep, index))
        .collect::<Result<Vec<_>, _>>()?;
    let measured = std::thread::scope(|scope| {
        let measure_one = |device: M::Device| {
            let mut device = steered(options, device);
            let (name, provenance) = (format!("{} on {name}", options.model), provenance.as_str());
            scope.spawn(move || {
                let profile = measure_up_to(&mut device, many, name, provenance)?;
                Ok::<_, BackendError>(Profile { reuse: measure_reuse(&mut device)?, ..profile })
            })
        };
        let threads: Vec<_> = devices.into_iter().map(measure_one).collect();
        threads.into_iter().map(std::thread::ScopedJoinHandle::join).collect::<Vec<_>>()
    });
    let first = measured.into_iter().next();
    let panicked = || BackendError("a device panicked while it was measured".into());
    let mut profile: Profile = first.and_then(Result::ok).ok_or_else(panicked)??;
    // After all others have ended: its two threads need a core each.
    profile.link = with_latency(profile.link, machine.spin());
    Ok(profile)
}

/// The profile with what calls were seen to take among all others, what sending a request takes, how soon after a last token the next one comes, and
/// what starting its sequence takes, where these were measured. A profile from a file has them in it.
fn as_seen<'a>(
    mut profile: Profile,
    records: impl IntoIterator<Item = &'a Record> + Clone,
    sending: Sending,
) -> Profile {
    let in_turn = record::in_turn(records.clone());
    if !in_turn.is_empty() {
        profile.in_turn = in_turn;
    }
    if sending != Sending::default() {
        profile.request_us = 1e6 * sending.each;
        profile.turnaround_us = 1e6 * sending.turnaround;
    }
    if let Some(seconds) = record::start_seconds(records) {
        profile.start_us = 1e6 * seconds;
    }
    profile
}

/// What calls are compared with; nothing where what they take among others is known or simulated.
fn compare_with(options: &ExpertParallel, profile: &Profile) -> Option<Compare> {
    // What waits for another stream of the same GPU is simulated.
    (options.profile.is_none() && !options.shares_processors())
        .then(|| Compare::new(profile.link, &profile.reuse))
}

/// First ticks do not count: who is the first to use memory waits for the machine to find it.
fn settle<P: Send + 'static>(driver: &mut Driver<'_, P>) -> Result<(), ExpertParallelError> {
    driver.hold(Mode::of(Pace::Lockstep), FIRST_TICKS)
}

/// Some ticks of each pace that calls are to be seen in.
fn look_at_calls<P: Send + 'static>(
    driver: &mut Driver<'_, P>,
    time: Duration,
) -> Result<(), ExpertParallelError> {
    driver.cluster().set_comparing(true);
    for pace in LOOKS {
        driver.hold(Mode::of(pace), time / LOOKS.len() as u32)?;
    }
    driver.cluster().set_comparing(false);
    Ok(())
}

/// A device whose gates choose what the loads want, if there are any.
fn steered<D: Exchange>(options: &ExpertParallel, device: D) -> Steered<D> {
    let layout = device.layout();
    let gates = options.skewed(layout).map(|loads| Gates::new(layout, &loads, SEED));
    Steered::new(device, gates)
}

/// Devices that compute under the schedule.
fn start<M: Machine>(
    options: &ExpertParallel,
    schedule: ScheduleKind,
    machine: &M,
    placement: &Placement,
    profile: &Profile,
    compare: Option<Compare>,
) -> Result<Cluster<<M::Device as Exchange>::Payload>, ExpertParallelError> {
    let devices = machine.devices(options, schedule)?;
    let devices = devices.into_iter().map(|device| steered(options, device)).collect();
    let config = ClusterConfig {
        ticks: options.ticks(),
        schedule,
        costs: profile.costs(),
        control: options.control(),
        placement: placement.clone(),
        replan: None,
        stall: STALL,
        spin: machine.spin(),
        greedy: true,
        compare,
        keep_spans: options.out.is_some(),
    };
    Ok(Cluster::start(devices, config, greedy)?)
}
