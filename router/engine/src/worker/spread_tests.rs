//! A tier over two devices of hashes: what it answers, and what becomes of its requests when a device is lost.

use std::{collections::HashMap, sync::Arc, time::Duration};

use parking_lot::Mutex;
use reprise_expert_parallel::ClusterConfig;
use reprise_scheduler::{
    CoreConfig, DeviceId, ScheduleKind,
    placement::{Demand, Greedy, Loads, Planner, Roles},
    schedule::{ControlConfig, StageCosts},
    testing::{Fake, FakePayload, Fault},
};
use reprise_tier::{Event, FinishReason, Generation, TierError, TierState};

use super::{
    Shared,
    spread::{Requests, choose},
    tests::{last, shared, submit, submit_with},
};
use crate::worker::serve_spread;

const TICKS: CoreConfig = CoreConfig { max_sequences: 2, prefill_chunk: 32, max_rows: 34 };

/// Two devices that share all roles; one may go wrong at a call.
fn cluster(
    schedule: ScheduleKind,
    wrong: Option<(usize, u64, Fault)>,
) -> (reprise_expert_parallel::Cluster<FakePayload>, Requests) {
    let rows = 2 * TICKS.max_rows * usize::from(schedule.lanes());
    let mut devices: Vec<_> = (0..2).map(|_| Fake::new("ag af ag", rows, 64, 8).with_vocabulary(3)).collect();
    if let Some((device, call, fault)) = wrong {
        devices[device].fail_at(call, fault);
    }
    let layout = reprise_scheduler::Backend::layout(&devices[0]).clone();
    let loads = Loads::even(&layout);
    let ids = [DeviceId(0), DeviceId(1)];
    let demand = Demand {
        layout: &layout,
        devices: &ids,
        roles: Roles::Shared,
        experts_per_group: 1,
        replicas: 0,
        loads: &loads,
    };
    let config = ClusterConfig {
        ticks: TICKS,
        schedule,
        costs: StageCosts::default(),
        control: ControlConfig::default(),
        placement: Greedy.place(&demand).expect("fits"),
        replan: None,
        stall: Duration::from_secs(5),
        spin: reprise_expert_parallel::transport::SPIN,
        greedy: false,
        compare: None,
        keep_spans: false,
    };
    let requests: Requests = Arc::new(Mutex::new(HashMap::new()));
    let cluster = reprise_expert_parallel::Cluster::start(devices, config, || choose(&requests));
    (cluster.expect("starts"), requests)
}

/// Never ends a turn by itself.
fn long(shared: &Shared, tokens: u32) -> Generation {
    submit_with(shared, |request| {
        request.max_tokens = Some(tokens);
        request.sampling.logit_bias = vec![(0, -100.0), (2, -100.0)];
    })
}

fn close(shared: &Shared) {
    shared.queue.close(&TierError::ShuttingDown, &shared.meter);
}

#[test]
fn requests_are_answered_and_the_devices_tell_what_they_did() {
    for schedule in [ScheduleKind::Lockstep, ScheduleKind::PingPong, ScheduleKind::Adaptive] {
        let shared = shared(4, 64);
        let generations: Vec<_> = (0..12).map(|i| long(&shared, 1 + i)).collect();
        let (ends, loads) = std::thread::scope(|scope| {
            scope.spawn(|| {
                let (cluster, requests) = cluster(schedule, None);
                serve_spread(&shared, shared.loaded.get().expect("set"), cluster, requests, 4);
            });
            let ends: Vec<_> = generations.into_iter().map(last).collect();
            let begun = std::time::Instant::now();
            let settled = || {
                let loads = shared.devices();
                let freed = loads.iter().all(|load| load.kv_used == 0.0 && load.expert_parts > 0);
                (loads.len() == 2 && freed, loads)
            };
            while !settled().0 && begun.elapsed() < Duration::from_secs(60) {
                std::thread::yield_now();
            }
            let settled = settled();
            close(&shared);
            (ends, settled)
        });
        for (i, end) in ends.into_iter().enumerate() {
            let Ok(Event::Finished(finish)) = end else { panic!("{schedule}: {end:?}") };
            assert_eq!(
                (finish.reason, finish.usage.completion_tokens as usize),
                (FinishReason::Length, 1 + i)
            );
        }
        let (settled, loads) = loads;
        assert!(settled, "{schedule}: {loads:?}");
        for load in loads {
            assert!(load.busy_seconds > 0.0);
            assert!(load.calls.iter().all(|calls| calls.calls > 0 && calls.entries >= calls.calls));
            let names: Vec<_> = load.queue_depth.iter().map(|(name, _)| name.as_str()).collect();
            assert!(names.contains(&"e1") && names.contains(&"s0") && names.contains(&"head"), "{names:?}");
        }
    }
}

#[test]
fn a_lost_device_ends_all_requests_with_an_error_and_the_tier() {
    for fault in [Fault::Error, Fault::Panic] {
        let shared = shared(4, 64);
        let generations: Vec<_> = (0..6).map(|_| long(&shared, 200)).collect();
        let ends: Vec<_> = std::thread::scope(|scope| {
            scope.spawn(|| {
                let (cluster, requests) = cluster(ScheduleKind::Lockstep, Some((1, 90, fault)));
                serve_spread(&shared, shared.loaded.get().expect("set"), cluster, requests, 4);
            });
            generations.into_iter().map(last).collect()
        });
        for end in ends {
            match end {
                Err(TierError::Internal { message }) => assert!(message.contains("device 1"), "{message}"),
                Err(TierError::NotReady { .. }) => {}
                other => panic!("{fault:?}: {other:?}"),
            }
        }
        assert!(matches!(*shared.state.read(), TierState::Failed { .. }));
    }
}

#[test]
fn who_goes_away_frees_its_place() {
    let shared = shared(1, 8);
    let (begun, end) = std::thread::scope(|scope| {
        scope.spawn(|| {
            let (cluster, requests) = cluster(ScheduleKind::Adaptive, None);
            serve_spread(&shared, shared.loaded.get().expect("set"), cluster, requests, 1);
        });
        let mut first = long(&shared, 200);
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("runtime");
        let begun = runtime.block_on(first.next());
        drop(first);
        let end = last(submit(&shared));
        close(&shared);
        (begun, end)
    });
    assert!(matches!(begun, Some(Ok(Event::Started { .. }))), "{begun:?}");
    assert!(matches!(end, Ok(Event::Finished(_))), "{end:?}");
}
