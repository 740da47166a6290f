use reprise_scheduler::{
    Stage, SubLayerKind,
    placement::{Demand, Greedy, Planner, Roles},
};

use super::*;
use crate::{
    profile::{InTurn, Link, Reuse, StageTime},
    record::{Span, balance},
    workload::Lengths,
};

const ATTENTION: u16 = 2;

fn layout(layers: usize, experts: u16, top_k: u16) -> ModelLayout {
    let layer = [SubLayerKind::Attention, SubLayerKind::Experts { experts, top_k }];
    ModelLayout {
        sub_layers: layer.repeat(layers),
        vocabulary: 8,
        rows: usize::from(ATTENTION) * 64 * 2,
        kv_blocks: 400,
        kv_block_tokens: 16,
        context_length: 1024,
    }
}

/// Times that can be added up by hand.
fn profile() -> Profile {
    let time = |fixed_us, floor_us, each_us| StageTime { fixed_us, floor_us, each_us };
    Profile {
        name: "by hand".into(),
        provenance: "made up".into(),
        embed: time(1.0, 0.0, 0.0),
        attention: time(2.0, 10.0, 1.0),
        prompt: None,
        context_us: 0.0,
        reach_us: 0.0,
        feed_forward: time(0.0, 0.0, 0.0),
        gate: time(1.0, 0.0, 0.0),
        expert: time(5.0, 20.0, 1.0),
        join: StageTime::default(),
        head: time(3.0, 0.0, 0.0),
        worker: Default::default(),
        link: Link { latency_us: 7.0, vector_us: 0.5, ..Link::default() },
        points: Default::default(),
        in_turn: Default::default(),
        request_us: 0.0,
        turnaround_us: 0.0,
        start_us: 0.0,
        reuse: Vec::new(),
    }
}

fn config(schedule: ScheduleKind, skew: f64, sequences: usize) -> Config {
    on_devices(4, ATTENTION, schedule, skew, sequences)
}

fn on_devices(devices: u16, attention: u16, schedule: ScheduleKind, skew: f64, sequences: usize) -> Config {
    let layout = layout(4, 8, 2);
    let devices: Vec<_> = (0..devices).map(DeviceId).collect();
    let loads = Gates::skewed(&layout, skew, 3);
    let roles = Roles::Disjoint { attention };
    let demand = Demand {
        layout: &layout,
        devices: &devices,
        roles,
        experts_per_group: 1,
        replicas: 0,
        loads: &loads,
    };
    Config {
        placement: Greedy.place(&demand).expect("fits"),
        gates: Gates::new(&layout, &loads, 4),
        straggler: None,
        processors: (0..devices.len()).collect(),
        ticks: CoreConfig { max_sequences: 32, prefill_chunk: 32, max_rows: 64 },
        schedule,
        control: ControlConfig::default(),
        profile: profile(),
        workload: Workload {
            lengths: Lengths { name: "test", prompt_tokens: 20, generated_tokens: 20 },
            arrivals: Arrivals::Closed(sequences),
            seed: 5,
        },
        warm_up: Duration::from_millis(20),
        measured: Duration::from_millis(200),
        seed: 0,
        keep_spans: true,
        layout,
    }
}

/// Of one sequence: embedding 1, head 3, and four layers, of which each takes the one time or the other.
fn each_token_takes(parcel_us: f64, apart: f64, together: f64) {
    let mut config = config(ScheduleKind::Lockstep, 0.0, 1);
    config.profile.link.parcel_us = parcel_us;
    config.workload.lengths = Lengths { name: "one", prompt_tokens: 2, generated_tokens: 400 };
    config.warm_up = Duration::from_millis(1);
    config.measured = Duration::from_millis(20);
    let outcome = simulate(config).expect("valid");
    let gaps = &outcome.gaps;
    assert!(gaps.len() > 50, "{}", gaps.len());
    for gap in gaps {
        let rest = gap * 1e6 - 4.0 - 4.0 * apart;
        let layers = rest / (together - apart);
        assert!((layers - layers.round()).abs() < 1e-3 && (0.0..4.5).contains(&layers), "{gap}: {layers}");
    }
}

#[test]
fn one_token_takes_what_can_be_added_up() {
    // Attention 12, gate 1, one vector there 0.5 + 7 to the device that is asked last, experts (25 where each has one, 45 where both lie on one
    // device), one or two vectors back. With both experts on one device: 0.5 + 7 + 45 + 1 + 7. On two devices the second parcel leaves half a
    // microsecond later: 1 + 7 + 25 + 0.5 + 7.
    each_token_takes(0.0, 12.0 + 1.0 + 40.5, 12.0 + 1.0 + 60.5);
}

/// Each end of a parcel takes 3. On two devices: the second is packed behind the first, and what comes back first is unpacked while the other is computed.
#[test]
fn parcels_are_packed_one_after_the_other_and_unpacked_when_they_come() {
    let (apart, together) = (6.0 + 7.5 + 3.0 + 25.0 + 3.0 + 7.5 + 3.0, 60.5 + 4.0 * 3.0);
    each_token_takes(3.0, 12.0 + 1.0 + apart, 12.0 + 1.0 + together);
}

/// Requests that are sent at once come one after the other: with nothing to wait for, the first begins alone.
#[test]
fn requests_come_as_fast_as_they_are_sent() {
    let first_calls = |request_us| {
        let mut config = config(ScheduleKind::Defrag, 0.0, 40);
        config.profile.request_us = request_us;
        config.warm_up = Duration::ZERO;
        let outcome = simulate(config).expect("valid");
        let attends = |span: &&Span| span.stage == Stage::SubLayer(0);
        let spans = outcome.records.first().map(Record::spans).unwrap_or_default();
        spans.iter().filter(attends).take(2).map(|span| span.entries).collect::<Vec<_>>()
    };
    let (at_once, apart) = (first_calls(0.0), first_calls(3.0));
    assert!(at_once[0] > 4 * apart[0], "{at_once:?}, {apart:?}");
}

/// A device starts, before a call, all sequences whose requests have come, one after the other.
#[test]
fn starting_sequences_delays_a_call() {
    let mut config = config(ScheduleKind::Defrag, 0.0, 40);
    config.profile.start_us = 3.0;
    config.warm_up = Duration::ZERO;
    let outcome = simulate(config).expect("valid");
    let spans = outcome.records.first().map(Record::spans).unwrap_or_default();
    let starts = |starts: u32| starts * Duration::from_micros(3);
    assert_eq!(spans[0].begin.0, starts(1));
    // A half of all are this device's.
    assert_eq!(spans[1].begin.since(spans[0].end), starts(19));
    assert_eq!(spans[2].begin, spans[1].end);
}

/// A request that takes the place of a sequence comes too late for the call that the others go on with. Under roofline it waits where rows enter for them to come round,
/// and they are not kept waiting for it.
#[test]
fn whoever_comes_late_keeps_nobody_waiting() {
    let tokens = |schedule, turnaround_us| {
        let mut config = on_devices(2, 1, schedule, 0.0, 30);
        config.profile.turnaround_us = turnaround_us;
        config.profile.expert.floor_us = 100.0;
        config.workload.lengths = Lengths { name: "test", prompt_tokens: 1, generated_tokens: 60 };
        config.warm_up = Duration::from_millis(300);
        config.measured = Duration::from_secs(2);
        simulate(config).expect("valid").tokens as f64
    };
    let late = |schedule| tokens(schedule, 30.0) / tokens(schedule, 0.0);
    let [lockstep, roofline] = [ScheduleKind::Lockstep, ScheduleKind::Roofline].map(late);
    assert!(lockstep > 0.98 && roofline > 0.97, "{lockstep}, {roofline}");
}

#[test]
fn every_schedule_computes_all_tokens() {
    for schedule in ScheduleKind::ALL {
        for skew in [0.0, 3.0] {
            let outcome = simulate(config(schedule, skew, 40)).expect("valid");
            assert!(outcome.tokens > 1000 && outcome.requests > 40, "{schedule}: {} tokens", outcome.tokens);
            assert!(outcome.gaps.len() as u64 <= outcome.tokens);
            let reports: Vec<_> =
                outcome.records.iter().enumerate().map(|(i, r)| r.report(i, outcome.until)).collect();
            assert!(reports.iter().all(|report| (0.0..1.0).contains(&report.idle_share)));
            assert!(reports[..2].iter().all(|report| report.expert_parts == 0));
            let even = balance(&reports);
            assert!(if skew > 0.0 { even < 1.0 } else { even > 0.9 }, "{schedule}, {skew}: {even}");
        }
    }
}

/// A device computes one call at a time.
#[test]
fn calls_of_a_device_do_not_overlap() {
    let outcome = simulate(config(ScheduleKind::Defrag, 2.0, 40)).expect("valid");
    for record in &outcome.records {
        assert!(record.spans().len() > 100);
        assert!(record.spans().windows(2).all(|pair| pair[0].end <= pair[1].begin));
    }
}

#[test]
fn the_same_again_is_the_same() {
    let run = || {
        let outcome = simulate(config(ScheduleKind::Adaptive, 1.0, 30)).expect("valid");
        (outcome.tokens, outcome.gaps)
    };
    assert_eq!(run(), run());
}

/// With one slow device everybody waits in lock-step; without a barrier the others go on, and the slow one gathers larger batches.
#[test]
fn without_a_barrier_a_hot_device_is_never_idle() {
    let idle_of_hottest = |schedule| {
        let outcome = simulate(config(schedule, 3.0, 60)).expect("valid");
        let reports: Vec<_> =
            outcome.records.iter().enumerate().map(|(i, r)| r.report(i, outcome.until)).collect();
        reports[2..].iter().map(|report| report.idle_share).fold(1.0f64, f64::min)
    };
    let (lockstep, defrag) = (idle_of_hottest(ScheduleKind::Lockstep), idle_of_hottest(ScheduleKind::Defrag));
    assert!(defrag < lockstep, "{defrag}, {lockstep} in lock-step");
}

fn tokens(schedule: ScheduleKind, floor_us: f64, straggler: Option<(DeviceId, f64)>) -> f64 {
    let mut config = config(schedule, 3.0, 64);
    config.profile.expert.floor_us = floor_us;
    config.straggler = straggler;
    // Adaptive's first looks are over by then, also where several are near the best.
    config.control = ControlConfig {
        window: Duration::from_millis(20),
        rows: 64,
        settle: Duration::from_millis(10),
        ..ControlConfig::default()
    };
    config.warm_up = Duration::from_millis(1200);
    // Long beside a look.
    config.measured = Duration::from_secs(1);
    simulate(config).expect("valid").tokens as f64
}

/// Where computing takes the time, not reading weights, lock-step's bubbles can be filled; where reading does, weights that are read twice cost more
/// than a bubble.
#[test]
fn micro_batches_pay_where_experts_are_bound_by_computing() {
    let [lockstep, pingpong, roofline] =
        [ScheduleKind::Lockstep, ScheduleKind::PingPong, ScheduleKind::Roofline]
            .map(|kind| tokens(kind, 1.0, None));
    assert!(pingpong > 1.1 * lockstep && roofline > 1.1 * lockstep, "{lockstep}, {pingpong}, {roofline}");
    let [lockstep, pingpong] =
        [ScheduleKind::Lockstep, ScheduleKind::PingPong].map(|kind| tokens(kind, 400.0, None));
    assert!(pingpong < lockstep, "{lockstep}, {pingpong}");
}

#[test]
fn adaptive_comes_to_what_is_best() {
    for floor_us in [1.0, 400.0] {
        let [lockstep, defrag, adaptive] =
            [ScheduleKind::Lockstep, ScheduleKind::Defrag, ScheduleKind::Adaptive]
                .map(|kind| tokens(kind, floor_us, None));
        assert!(adaptive > 0.95 * lockstep.max(defrag), "{floor_us}: {lockstep}, {defrag}, {adaptive}");
    }
}

/// Two of a processor take turns on it: whoever computes beside another takes longer, what launching takes aside.
#[test]
fn devices_that_share_a_processor_are_slower() {
    let tokens = |processors: Vec<usize>| {
        let config = Config { processors, ..config(ScheduleKind::Lockstep, 0.0, 64) };
        simulate(config).expect("valid").tokens as f64
    };
    let (apart, shared) = (tokens(vec![0, 1, 2, 3]), tokens(vec![0, 0, 1, 1]));
    assert!(shared < 0.8 * apart && shared > 0.5 * apart, "{apart}, {shared}");
}

/// What calls were seen to take among all others counts, and at a barrier the slower of two more than the faster.
#[test]
fn calls_take_as_long_as_they_were_seen_to() {
    let tokens = |times: &[f64]| {
        let mut config = config(ScheduleKind::Lockstep, 0.0, 64);
        for stage in ["embed", "attention", "gate", "experts", "head"] {
            config.profile.in_turn.insert(stage.to_owned(), InTurn::alike(0.0, times.to_vec()));
        }
        simulate(config).expect("valid").tokens as f64
    };
    let [as_predicted, twice, sometimes] = [&[][..], &[2.0], &[1.0, 3.0]].map(tokens);
    assert!(twice < 0.65 * as_predicted && twice > 0.45 * as_predicted, "{as_predicted}, {twice}");
    assert!(sometimes < 0.95 * twice, "{twice}, {sometimes}");
}

/// Time that calls take in any case, and who has parked: both where calls are short.
#[test]
fn what_is_not_computing_takes_time_too() {
    let tokens = |added_us, wake_us| {
        let mut config = config(ScheduleKind::Lockstep, 0.0, 64);
        config.profile.in_turn.insert("experts".to_owned(), InTurn::alike(added_us, vec![1.0]));
        config.profile.link = Link { spin_us: 20.0, wake_us, ..config.profile.link };
        simulate(config).expect("valid").tokens
    };
    let as_predicted = tokens(0.0, 0.0);
    assert!(tokens(50.0, 0.0) < as_predicted && tokens(0.0, 50.0) < as_predicted);
}

/// Whose weights are in a cache still: that helps who comes back to the same experts soon, and not where all have their turn before.
#[test]
fn experts_that_were_used_just_before_take_less() {
    let tokens = |skew, most: f64, saved| {
        let mut config = config(ScheduleKind::MostTokensFirst, skew, 64);
        let reuse = |parts| Reuse { parts, points: vec![[1.0, saved], [most, saved], [most + 1.0, 0.0]] };
        config.profile.reuse = vec![reuse(1), reuse(64)];
        simulate(config).expect("valid").tokens as f64
    };
    let gain = |skew, most| tokens(skew, most, 15.0) / tokens(skew, most, 0.0);
    let (few, all, skewed) = (gain(0.0, 1.0), gain(0.0, 32.0), gain(3.0, 1.0));
    assert!(all > 1.1 && few < all && skewed > few, "{few}, {all}, {skewed}");
}

/// A slow device is waited for in every sub-layer; without a barrier only where its rows are worth it.
#[test]
fn with_a_straggler_too_who_has_no_barrier_is_ahead() {
    let [lockstep, roofline, defrag] = [ScheduleKind::Lockstep, ScheduleKind::Roofline, ScheduleKind::Defrag]
        .map(|kind| tokens(kind, 1.0, Some((DeviceId(0), 2.0))));
    assert!(roofline > 1.3 * lockstep && defrag > 1.3 * lockstep, "{lockstep}, {roofline}, {defrag}");
}

/// Prompts come and go, so that rows enter at all times: few of them are computed alone.
#[test]
fn roofline_keeps_rows_together_that_enter_apart() {
    let mut config = on_devices(2, 1, ScheduleKind::Roofline, 0.0, 30);
    config.profile.expert.floor_us = 5.0;
    config.workload.lengths = Lengths { name: "test", prompt_tokens: 40, generated_tokens: 80 };
    let outcome = simulate(config).expect("valid");
    let spans = outcome.records[0].spans();
    let rows: Vec<_> =
        spans.iter().filter(|span| span.stage == Stage::SubLayer(4)).map(|span| span.entries).collect();
    let mean = rows.iter().sum::<usize>() / rows.len();
    let few = rows.iter().filter(|rows| **rows < mean / 2).count();
    assert!(rows.len() > 100 && 20 * few < rows.len(), "{few} of {}, mean {mean}: {rows:?}", rows.len());
}
