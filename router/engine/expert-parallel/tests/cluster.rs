//! A cluster of fake devices: whatever the schedule, the timing and the faults, tokens are those of a sequence alone.
#![expect(clippy::expect_used, clippy::panic, reason = "a test whose cluster does not come up has failed")]

use std::{
    collections::BTreeMap,
    sync::mpsc::sync_channel,
    time::{Duration, Instant},
};

use proptest::prelude::*;
use reprise_expert_parallel::{
    Cluster, ClusterConfig, Event, RequestError, RequestId,
    profile::{InTurn, Link, OfSize},
    record,
    worker::{Compare, greedy},
};
use reprise_scheduler::{
    Backend, BackendError, Before, CoreConfig, DeviceId, Faulty, Mode, Pace, Placement, Priority,
    ScheduleKind,
    placement::{Demand, Greedy, Loads, PlacementError, Planner, Roles},
    schedule::{ControlConfig, Cost, StageCosts},
    testing::{Fake, FakePayload},
};

const TICKS: CoreConfig = CoreConfig { max_sequences: 4, prefill_chunk: 6, max_rows: 10 };

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wrong {
    Not,
    Panic,
    Error,
    /// Longer than the cluster waits.
    Stall,
}

impl Wrong {
    /// At a call, counted from 1.
    fn at(self, wrong_at: u64) -> Before {
        let mut calls = 0;
        Box::new(move || {
            calls += 1;
            if calls != wrong_at {
                return Ok(());
            }
            match self {
                Self::Not => Ok(()),
                Self::Panic => panic!("as told"),
                Self::Error => Err(BackendError("as told".into())),
                Self::Stall => {
                    let (_open, nothing) = sync_channel::<()>(1);
                    let _ = nothing.recv_timeout(Duration::from_secs(6));
                    Ok(())
                }
            }
        })
    }
}

#[derive(Debug, Clone, Copy)]
struct Setting {
    devices: u16,
    roles: Roles,
    replicas: usize,
    experts_per_group: u16,
    schedule: ScheduleKind,
    kv_blocks: usize,
    /// Device, at which of its calls, and what.
    wrong: Option<(u16, u64, Wrong)>,
    replan: bool,
    /// The devices choose tokens themselves.
    greedy: bool,
}

impl Setting {
    fn shared(schedule: ScheduleKind) -> Self {
        Self {
            devices: 2,
            roles: Roles::Shared,
            replicas: 0,
            experts_per_group: 2,
            schedule,
            kv_blocks: 40,
            wrong: None,
            replan: false,
            greedy: false,
        }
    }

    fn fake(&self) -> Fake {
        let attention = match self.roles {
            Roles::Shared => self.devices,
            Roles::Disjoint { attention } => attention,
        };
        Fake::new(
            "ag af ag",
            usize::from(attention) * TICKS.max_rows * usize::from(self.schedule.lanes()),
            self.kv_blocks,
            4,
        )
    }

    fn place(self, devices: &[DeviceId]) -> Result<Placement, PlacementError> {
        let layout = self.fake().layout().clone();
        let loads = Loads::with(&layout, |_, expert, _| f64::from(expert % 3 + 1));
        Greedy.place(&Demand {
            layout: &layout,
            devices,
            roles: self.roles,
            experts_per_group: self.experts_per_group,
            replicas: self.replicas,
            loads: &loads,
        })
    }

    fn start(self) -> Cluster<FakePayload> {
        let ids: Vec<_> = (0..self.devices).map(DeviceId).collect();
        let device = |id: &DeviceId| {
            let (wrong_at, how) = match self.wrong {
                Some((device, call, how)) if device == id.0 => (call, how),
                _ => (0, Wrong::Not),
            };
            Faulty::new(self.fake(), how.at(wrong_at))
        };
        let config = ClusterConfig {
            ticks: TICKS,
            schedule: self.schedule,
            costs: costs(),
            control: ControlConfig::restless(Duration::from_millis(3)),
            placement: self.place(&ids).expect("fits"),
            replan: self
                .replan
                .then(|| -> reprise_expert_parallel::Replan { Box::new(move |alive| self.place(alive)) }),
            stall: Duration::from_secs(2),
            spin: reprise_expert_parallel::transport::SPIN,
            greedy: self.greedy,
            compare: Some(Compare::new(Link { parcel_us: 1.0, ..Link::default() }, &[])),
            keep_spans: false,
        };
        Cluster::start(ids.iter().map(device).collect(), config, greedy).expect("starts")
    }
}

/// Calls for which it pays to wait a little for more rows.
fn costs() -> StageCosts {
    let cost = Cost::roofline(1e-4, 2e-4, 1e-6);
    StageCosts { attention: cost, gate: cost, expert: cost, head: cost, ..StageCosts::default() }
}

/// A request, and after how many events it is cancelled.
#[derive(Debug, Clone)]
struct Job {
    prompt: Vec<u32>,
    max_new: usize,
    cancel_after: Option<usize>,
}

fn jobs() -> impl Strategy<Value = Vec<Job>> {
    let stem = prop::collection::vec(0u32..40, 12);
    let one = (
        prop::collection::vec(0u32..40, 1..8),
        1usize..12,
        prop::option::weighted(0.25, 0usize..40),
        any::<bool>(),
    );
    (stem, prop::collection::vec(one, 1..14)).prop_map(|(stem, jobs)| {
        let job = |(own, max_new, cancel_after, shares): (Vec<u32>, usize, Option<usize>, bool)| {
            // Some begin alike, so that blocks are shared.
            let mut prompt = if shares { stem.clone() } else { Vec::new() };
            prompt.extend(own);
            Job { prompt, max_new, cancel_after }
        };
        jobs.into_iter().map(job).collect()
    })
}

/// How a request went.
#[derive(Debug, Default)]
struct Seen {
    tokens: Vec<u32>,
    over: bool,
    error: Option<RequestError>,
}

/// Runs all jobs to their ends; panics if that takes long.
fn run(cluster: &mut Cluster<FakePayload>, jobs: &[Job]) -> Vec<Seen> {
    let mut ids: BTreeMap<RequestId, usize> = BTreeMap::new();
    let mut seen: Vec<Seen> = Vec::new();
    for (at, job) in jobs.iter().enumerate() {
        let id = cluster.submit(job.prompt.clone(), job.max_new, Priority::Interactive, 0);
        seen.push(Seen::default());
        match id {
            Ok(id) => drop(ids.insert(id, at)),
            Err(error) => (seen[at].over, seen[at].error) = (true, Some(error)),
        }
    }
    let (late, mut events) = (Instant::now() + Duration::from_secs(60), 0);
    while seen.iter().any(|seen| !seen.over) {
        assert!(Instant::now() < late, "no end in sight: {cluster:?}, {seen:?}, lost {:?}", cluster.lost());
        for event in cluster.poll(Duration::from_millis(2)) {
            events += 1;
            match event {
                Event::Token { request, token, last, .. } => {
                    let seen = &mut seen[ids[&request]];
                    assert!(!seen.over, "an event after the end");
                    seen.tokens.extend(token);
                    seen.over = last;
                }
                Event::Failed { request, error } => {
                    let seen = &mut seen[ids[&request]];
                    (seen.over, seen.error) = (true, Some(error));
                }
            }
        }
        for (id, at) in &ids {
            if !seen[*at].over && jobs[*at].cancel_after.is_some_and(|after| events >= after) {
                cluster.cancel(*id);
                seen[*at].over = true;
            }
        }
    }
    seen
}

/// All tokens are right, and no KV is held after the end.
fn check(setting: Setting, mut cluster: Cluster<FakePayload>, jobs: &[Job], seen: &[Seen]) {
    let fake = setting.fake();
    for (job, seen) in jobs.iter().zip(seen) {
        let alone = fake.alone(&job.prompt, job.max_new);
        if job.cancel_after.is_none() && seen.error.is_none() {
            assert_eq!(seen.tokens, alone, "{setting:?}");
        } else {
            assert!(alone.starts_with(&seen.tokens), "{setting:?}");
        }
    }
    let lost: Vec<_> = cluster.lost().iter().map(|lost| lost.device).collect();
    let late = Instant::now() + Duration::from_secs(10);
    for device in (0..setting.devices).map(DeviceId).filter(|device| !lost.contains(device)) {
        while cluster.held_blocks(device) > 0 {
            assert!(Instant::now() < late, "{setting:?}: {device:?} holds KV");
            cluster.poll(Duration::from_millis(2));
        }
    }
    cluster.stop();
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    /// Every schedule, shared and disjoint roles, with and without replicas, KV so short that sequences are preempted, with cancels.
    #[test]
    fn tokens_do_not_depend_on_devices_or_schedules(
        jobs in jobs(), devices in 2u16..5, disjoint in any::<bool>(), replicas in 0usize..3,
        experts_per_group in 1u16..4, kv_blocks in 8usize..30, greedy in any::<bool>(),
    ) {
        for schedule in ScheduleKind::ALL {
            let roles = if disjoint { Roles::Disjoint { attention: devices / 2 } } else { Roles::Shared };
            let setting = Setting {
                devices, roles, experts_per_group, kv_blocks, greedy,
                replicas: if disjoint && devices < 4 { 0 } else { replicas },
                ..Setting::shared(schedule)
            };
            let mut cluster = setting.start();
            let seen = run(&mut cluster, &jobs);
            prop_assert!(seen.iter().all(|seen| seen.error.is_none()));
            check(setting, cluster, &jobs, &seen);
        }
    }
}

fn many_jobs() -> Vec<Job> {
    let job = |i: u32| Job {
        prompt: (0..5 + i % 7).map(|t| (t * 7 + i) % 40).collect(),
        max_new: 10,
        cancel_after: None,
    };
    (0..12).map(job).collect()
}

#[test]
fn a_lost_device_is_noticed_and_its_sequences_are_computed_elsewhere() {
    let jobs = many_jobs();
    for (how, call) in [(Wrong::Panic, 5), (Wrong::Error, 40), (Wrong::Stall, 23)] {
        for schedule in [ScheduleKind::Lockstep, ScheduleKind::Defrag, ScheduleKind::Adaptive] {
            let wrong = Some((1, call, how));
            let setting = Setting { wrong, replan: true, ..Setting::shared(schedule) };
            let mut cluster = setting.start();
            let seen = run(&mut cluster, &jobs);
            assert!(seen.iter().all(|seen| seen.error.is_none()), "{how:?}: {seen:?}");
            let lost = cluster.lost().to_vec();
            assert_eq!(lost.iter().map(|lost| lost.device).collect::<Vec<_>>(), [DeviceId(1)], "{how:?}");
            assert_eq!(lost[0].silent.is_some(), how == Wrong::Stall);
            assert!(lost[0].recomputed > 0);
            check(setting, cluster, &jobs, &seen);
        }
    }
}

/// A held mode is what is done, whatever the control would, and changes nothing of what is computed.
#[test]
fn a_held_mode_stays_until_it_is_let_go() {
    let jobs = many_jobs();
    let setting = Setting { replicas: 1, ..Setting::shared(ScheduleKind::Adaptive) };
    for pace in [Pace::Lockstep, Pace::PingPong, Pace::Free, Pace::Defrag] {
        for copies in [false, true] {
            let mut cluster = setting.start();
            let held = Mode { pace, copies };
            cluster.hold(Some(held));
            let seen = run(&mut cluster, &jobs);
            assert_eq!(cluster.mode(), held);
            cluster.hold(None);
            assert_eq!(cluster.mode(), ScheduleKind::Adaptive.mode(), "its control was not asked");
            let more = run(&mut cluster, &jobs);
            assert!(more.iter().zip(&seen).all(|(one, other)| one.tokens == other.tokens));
            check(setting, cluster, &jobs, &seen);
        }
    }
    let mut cluster = Setting::shared(ScheduleKind::Lockstep).start();
    cluster.hold(Some(Mode::of(Pace::Free)));
    assert_eq!(cluster.mode().pace, Pace::Lockstep, "no schedule that knows another");
}

#[test]
fn calls_are_compared_with_what_was_predicted() {
    let mut cluster = Setting::shared(ScheduleKind::Lockstep).start();
    cluster.set_comparing(true);
    run(&mut cluster, &many_jobs());
    // They stay, whatever else is forgotten.
    cluster.reset_records();
    cluster.set_comparing(false);
    run(&mut cluster, &many_jobs());
    let records: Vec<_> = cluster.stop().into_iter().flatten().collect();
    let times = record::in_turn(&records);
    // Those that cost something, and both ends of parcels; each in as many shares.
    assert_eq!(times.keys().collect::<Vec<_>>(), ["attention", "experts", "gate", "head", "parcel"]);
    for (stage, InTurn { added_us, sizes }) in &times {
        assert!(*added_us >= 0.0, "{stage}: {added_us}");
        assert!(
            !sizes.is_empty() && sizes.is_sorted_by(|a, b| a.predicted_us < b.predicted_us),
            "{stage}: {sizes:?}"
        );
        for OfSize { times, .. } in sizes {
            assert!(times.len() == 32 && times.is_sorted() && times[0] > 0.0, "{stage}: {times:?}");
        }
    }
    let mut cluster = Setting::shared(ScheduleKind::Lockstep).start();
    run(&mut cluster, &many_jobs());
    assert!(record::in_turn(&cluster.stop().into_iter().flatten().collect::<Vec<_>>()).is_empty());
}

#[test]
fn replicas_serve_for_a_lost_device() {
    let jobs = many_jobs();
    // Two with attention, two with experts that both have all three groups.
    let setting = Setting {
        devices: 4,
        roles: Roles::Disjoint { attention: 2 },
        replicas: 3,
        wrong: Some((3, 20, Wrong::Panic)),
        ..Setting::shared(ScheduleKind::Defrag)
    };
    let mut cluster = setting.start();
    let seen = run(&mut cluster, &jobs);
    assert_eq!(cluster.lost().len(), 1);
    assert!(seen.iter().all(|seen| seen.error.is_none()));
    check(setting, cluster, &jobs, &seen);
}

#[test]
fn without_replicas_all_end_with_an_error_in_time() {
    let jobs = many_jobs();
    for how in [Wrong::Panic, Wrong::Stall] {
        let setting = Setting { wrong: Some((0, 15, how)), ..Setting::shared(ScheduleKind::Lockstep) };
        let mut cluster = setting.start();
        let begun = Instant::now();
        let seen = run(&mut cluster, &jobs);
        assert!(begun.elapsed() < Duration::from_secs(25));
        let lost = |seen: &Seen| matches!(seen.error, Some(RequestError::Lost { device: DeviceId(0), .. }));
        assert!(seen.iter().any(lost), "{seen:?}");
        assert!(seen.iter().all(|seen| lost(seen) || seen.error.is_none()));
        let refused = cluster.submit(vec![1, 2], 3, Priority::Interactive, 0);
        assert!(matches!(refused, Err(RequestError::Lost { .. })));
        check(setting, cluster, &jobs, &seen);
    }
}

#[test]
fn what_can_never_fit_is_refused() {
    let mut cluster = Setting::shared(ScheduleKind::Defrag).start();
    let error = cluster.submit(vec![1; 160], 1, Priority::Interactive, 0).expect_err("too long");
    assert!(matches!(error, RequestError::Never(_)), "{error}");
    assert!(cluster.poll(Duration::from_millis(1)).is_empty() && cluster.running() == 0);
}
