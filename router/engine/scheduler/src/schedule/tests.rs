use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::{SubLayerKind, placement::Hosting};

fn queue(stage: Stage, depth: usize, since: u64) -> QueueState {
    let oldest = (depth > 0).then(|| Moment(Duration::from_millis(since)));
    QueueState { depth, oldest, newest: oldest, ..QueueState::empty(stage) }
}

/// A worker with experts only: `depths[b]`, all since 0.
fn experts(depths: &[usize]) -> Vec<QueueState> {
    let block = |(sub_layer, depth): (usize, &usize)| queue(Stage::Experts(sub_layer), *depth, 0);
    depths.iter().enumerate().map(block).collect()
}

fn choose(schedule: &mut dyn Schedule, queues: &[QueueState], now: u64) -> Option<QueueId> {
    let filled: Vec<_> = (0..queues.len()).filter(|at| queues[*at].depth > 0).collect();
    let in_flight = queues.iter().map(|queue| queue.depth).sum();
    let now = Moment(Duration::from_millis(now));
    let chosen = schedule.next(&Queues::alone(queues, &filled, now, in_flight));
    // The order in which the filled ones are listed means nothing.
    let turned: Vec<_> = filled.iter().rev().copied().collect();
    assert_eq!(chosen, schedule.next(&Queues::alone(queues, &turned, now, in_flight)));
    chosen
}

#[test]
fn defrag_is_the_formula() {
    // Ten blocks. By hand:
    // L(0) = 0.8 * 4 + 0.8^2 * 2 + 0.8^7 * 6 = 3.2 + 1.28 + 1.2582912 = 5.7382912; S(0) = 10.7382912
    // L(1) = 0.8 * 2 + 0.8^6 * 6 = 1.6 + 1.572864; S(1) = 7.172864
    // L(2) = 0.8^5 * 6 = 1.96608; S(2) = 3.96608
    // L(7): blocks 0 (5, at 0.8^3), 1 (4, at 0.8^4), 2 (2, at 0.8^5) = 2.56 + 1.6384 + 0.65536; S(7) = 10.85376
    let mut depths = [5, 4, 2, 0, 0, 0, 0, 6, 0, 0];
    assert_eq!(choose(&mut Defrag::default(), &experts(&depths), 0), Some(7), "S(7) = 10.85");
    // With five there: L(0) loses 0.8^7, and S(7) = 9.85376 < S(0) = 10.528576.
    depths[7] = 5;
    assert_eq!(choose(&mut Defrag::default(), &experts(&depths), 0), Some(0), "S(0) = 10.53");
}

#[test]
fn defrag_waits_where_rows_would_gather() {
    let queues = experts(&[3, 4, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(choose(&mut MostTokensFirst, &queues, 0), Some(1));
    // 3 + 0.8 * 4 over 4: the rows of block 0 come to those of block 1 before these run.
    assert_eq!(choose(&mut Defrag::default(), &queues, 0), Some(0));
}

#[test]
fn depth_first_and_layer_first_are_what_they_say() {
    let queues = experts(&[0, 2, 7, 7, 1, 0]);
    assert_eq!(choose(&mut MostTokensFirst, &queues, 0), Some(2), "of equal ones the first");
    assert_eq!(choose(&mut FirstLayerFirst, &queues, 0), Some(1));
    assert_eq!(choose(&mut Lockstep, &queues, 0), Some(1));
    let empty = experts(&[0, 0]);
    for kind in ScheduleKind::ALL {
        assert_eq!(choose(&mut *kind.build(&[], &StageCosts::default(), &[]), &empty, 0), None, "{kind}");
    }
}

#[test]
fn who_waited_too_long_goes_first() {
    let stage = Stage::Experts;
    let queues = [queue(stage(0), 9, 60), queue(stage(1), 1, 10), queue(stage(2), 1, 20)];
    for kind in [ScheduleKind::MostTokensFirst, ScheduleKind::Defrag, ScheduleKind::Roofline] {
        let costs = StageCosts { expert: Cost::roofline(1.0, 0.0, 1.0), ..StageCosts::default() };
        let mut schedule = kind.build(&[], &costs, &[]);
        assert_eq!(choose(&mut *schedule, &queues, 110), Some(0), "{kind}: 100 ms exactly are not too long");
        assert_eq!(choose(&mut *schedule, &queues, 111), Some(1), "{kind}: the longest waiting");
    }
}

/// Experts of two sub-layers, a call of which takes 30 ms for up to 20 parts.
fn waiting() -> (Roofline, Vec<QueueState>) {
    let costs = StageCosts { expert: Cost::roofline(0.010, 0.020, 0.001), ..StageCosts::default() };
    let schedule = Roofline::new(&[SubLayerKind::Attention; 2], costs, &[]);
    (schedule, experts(&[6, 0]))
}

/// Once: its answer may change its state.
fn ask(schedule: &mut Roofline, queues: &[QueueState], now: u64) -> Option<QueueId> {
    let filled: Vec<_> = (0..queues.len()).filter(|at| queues[*at].depth > 0).collect();
    let now = Moment(Duration::from_millis(now));
    schedule.next(&Queues::alone(queues, &filled, now, 99))
}

#[test]
fn roofline_waits_for_twice_what_one_call_for_all_saves() {
    let (mut schedule, mut queues) = waiting();
    assert_eq!(ask(&mut schedule, &queues, 40), Some(0), "nothing is about to come");
    // Idle since 50. 6 now and 6 soon: 30 ms each, 30 ms together.
    queues[0].foreseen.soon = 6.0;
    assert_eq!(ask(&mut schedule, &queues, 50), None);
    assert_eq!(schedule.asks_again(), Some(Moment(Duration::from_millis(110))));
    assert_eq!(ask(&mut schedule, &queues, 109), None);
    assert_eq!(ask(&mut schedule, &queues, 110), Some(0));
    assert_eq!(schedule.asks_again(), None);
}

#[test]
fn roofline_waits_less_where_less_is_saved() {
    // 30 now and 30 soon: 40 ms each, 70 ms together: 10 ms are saved, 20 waited for, from when the last came.
    let (mut schedule, mut queues) = waiting();
    (queues[0].depth, queues[0].foreseen.soon) = (30, 30.0);
    queues[0].newest = Some(Moment(Duration::from_millis(105)));
    assert_eq!(ask(&mut schedule, &queues, 107), None);
    assert_eq!(schedule.asks_again(), Some(Moment(Duration::from_millis(127))), "asked since 107");
    // Another has come: it is waited for anew.
    queues[0].newest = Some(Moment(Duration::from_millis(112)));
    assert_eq!(ask(&mut schedule, &queues, 128), None);
    assert_eq!(ask(&mut schedule, &queues, 132), Some(0));
}

#[test]
fn roofline_counts_all_experts_that_a_call_would_read_again() {
    // Each expert takes 30 ms, whatever its parts. Of eight here 81 parts meet all, and as many to come too: 240 ms are saved,
    // twice as many waited for.
    let costs = StageCosts {
        expert: Cost::roofline(0.0, 0.030, 0.0),
        beside: Cost::roofline(0.0, 0.030, 0.0),
        ..StageCosts::default()
    };
    let kinds = [SubLayerKind::Attention, SubLayerKind::Experts { experts: 16, top_k: 2 }];
    let of = |here, hosts, each| Hosting { here, share: 0.5, hosts, each, attends: 2, apart: false };
    let wait = |hosting: Hosting, stage: Stage| {
        let mut schedule = Roofline::new(&kinds, costs, &[of(0, 0, 0.0), hosting]);
        let mut queues = [queue(stage, 81, 0)];
        queues[0].foreseen.soon = 81.0;
        assert_eq!(ask(&mut schedule, &queues, 0), None);
        schedule.asks_again().map(|at| at.0.as_millis())
    };
    assert_eq!(wait(of(8, 2, 8.0), Stage::Experts(1)), Some(479), "81 of 8 meet 7.9998");
    assert_eq!(wait(of(1, 16, 1.0), Stage::Experts(1)), Some(60));
    // Before attention: what its rows' parts will read, on each of the devices side by side.
    assert_eq!(wait(of(0, 2, 8.0), Stage::SubLayer(0)), Some(479));
    assert_eq!(wait(of(0, 16, 1.0), Stage::SubLayer(0)), Some(60));
}

#[test]
fn roofline_never_waits_beside_a_queue_that_is_ripe() {
    let (mut schedule, mut queues) = waiting();
    queues[0].foreseen.soon = 6.0;
    queues[1] = queue(queues[1].stage, 1, 0);
    assert_eq!(ask(&mut schedule, &queues, 50), Some(1));
    queues[0].foreseen.soon = 0.0;
    assert_eq!(ask(&mut schedule, &queues, 50), Some(0), "of ripe experts the first");
}

#[test]
fn roofline_runs_the_farthest_of_its_own_rows_before_the_first_of_its_experts() {
    let mut schedule = Roofline::new(&[SubLayerKind::Attention; 3], StageCosts::default(), &[]);
    let stages = [
        Stage::Embed,
        Stage::Experts(0),
        Stage::SubLayer(1),
        Stage::Experts(1),
        Stage::SubLayer(2),
        Stage::Head,
    ];
    let mut queues = stages.map(|stage| queue(stage, 2, 0));
    for next in [5, 4, 2, 0, 1, 3] {
        assert_eq!(choose(&mut schedule, &queues, 9), Some(next));
        queues[next].depth = 0;
    }
    assert_eq!(choose(&mut schedule, &queues, 9), None);
}

/// Two layers, their attention on so many devices and experts on another, each of 1 ms and 1 ms for each row: 130 ms for 64 together, 68 for each half.
fn halves(attends: usize, apart: bool) -> Roofline {
    let cost = Cost::roofline(0.001, 0.0, 0.001);
    let costs = StageCosts { attention: cost, expert: cost, ..StageCosts::default() };
    let kinds = [SubLayerKind::Attention, SubLayerKind::Experts { experts: 1, top_k: 1 }].repeat(2);
    let hosting = |here| Hosting { here, share: here as f64, hosts: 1, each: 1.0, attends, apart };
    Roofline::new(&kinds, costs, &[hosting(0), hosting(1)].repeat(2))
}

/// A queue of some of 64 rows; all others are about to come, or so many.
fn of_64(stage: Stage, depth: usize, soon: Option<usize>) -> QueueState {
    let soon = soon.unwrap_or(64 - depth) as f64;
    let foreseen = Foreseen { soon, whole: 64.0, enter: 0.0, rows: 1.0, most: 1.0, alone: 1.0, reach: 0.0 };
    QueueState { foreseen, ..queue(stage, depth, 0) }
}

/// Until when it waits; none: it does not.
fn waits(mut schedule: Roofline, queue: QueueState) -> Option<u128> {
    let next = ask(&mut schedule, &[queue], 0);
    let until = schedule.asks_again().map(|at| at.0.as_millis());
    assert_ne!(next.is_some(), until.is_some());
    until
}

#[test]
fn roofline_takes_rows_in_halves_where_these_take_less() {
    let [attention, experts] = [Stage::SubLayer(2), Stage::Experts(3)];
    for (depth, takes) in [(64, 32), (52, 26), (40, 40), (1, 1)] {
        assert_eq!(halves(1, true).takes(&of_64(attention, depth, None)), takes);
        assert_eq!(halves(1, false).takes(&of_64(attention, depth, None)), depth, "one device does both");
        let parts = halves(1, true).takes(&of_64(experts, depth, None));
        assert_eq!(parts, depth, "parts that have come together go together");
    }
    // A half is not waited with, less than a half is: 1 ms would be saved, and before attention another of experts.
    for (stage, until) in [(attention, 4), (experts, 2)] {
        assert_eq!(waits(halves(1, true), of_64(stage, 32, None)), None);
        assert_eq!(waits(halves(1, true), of_64(stage, 20, None)), Some(until));
        assert!(waits(halves(1, false), of_64(stage, 32, None)).is_some(), "one device does both");
    }
}

/// Rows that wait to enter take nothing from a half of those that have.
#[test]
fn roofline_knows_a_half_of_the_rows_that_have_entered() {
    let mut queue = of_64(Stage::Experts(3), 26, None);
    assert!(waits(halves(1, true), queue).is_some());
    queue.foreseen.enter = 10.0;
    assert_eq!(waits(halves(1, true), queue), None);
}

#[test]
fn where_rows_enter_roofline_makes_groups_of_them() {
    let [entry, behind] = [0, 2].map(Stage::SubLayer);
    for (depth, takes) in [(64, 32), (52, 32), (40, 32), (32, 32), (1, 1)] {
        assert_eq!(halves(1, true).takes(&of_64(entry, depth, None)), takes, "the others wait for the next");
    }
    // For rows that are anywhere else, as long as both gates are worth it: 2 ms of each.
    assert_eq!(waits(halves(1, true), of_64(entry, 4, Some(0))), Some(8));
    assert_eq!(
        waits(halves(1, true), of_64(behind, 4, Some(0))),
        None,
        "behind it for those that are about to come"
    );
    assert_eq!(waits(halves(1, true), of_64(entry, 32, Some(0))), None, "a half");
    // One device does both: all together.
    assert_eq!(waits(halves(1, false), of_64(entry, 60, Some(0))), Some(8));
    assert_eq!(waits(halves(1, false), of_64(entry, 64, Some(0))), None);
    assert_eq!(halves(1, false).takes(&of_64(entry, 64, Some(0))), 64);
    // Others have attention too, and go on meanwhile.
    for apart in [true, false] {
        assert_eq!(waits(halves(2, apart), of_64(entry, 4, Some(0))), None);
    }
}

#[test]
fn names_round_trip() {
    for kind in ScheduleKind::ALL {
        assert_eq!(kind.to_string().parse(), Ok(kind));
    }
    assert!("fifo".parse::<ScheduleKind>().expect_err("unknown").to_string().contains("`fifo`"));
}

proptest! {
    /// Whatever the queues hold, each schedule takes one that is not empty if there is one; a deadline is kept by those that have one.
    #[test]
    fn a_filled_queue_is_chosen(
        depths in prop::collection::vec(0usize..5, 1..36),
        ages in prop::collection::vec(0u64..300, 36), now in 300u64..400,
    ) {
        let mut queues = experts(&depths);
        for (queue, age) in queues.iter_mut().zip(ages) {
            queue.oldest = queue.oldest.map(|_| Moment(Duration::from_millis(age)));
        }
        let costs = StageCosts { expert: Cost::roofline(0.5, 2.0, 1.0), ..StageCosts::default() };
        for kind in ScheduleKind::ALL {
            let chosen = choose(&mut *kind.build(&[], &costs, &[]), &queues, now);
            prop_assert_eq!(chosen.is_some(), queues.iter().any(|queue| queue.depth > 0));
            let Some(chosen) = chosen else { continue };
            prop_assert!(queues[chosen].depth > 0);
            let oldest = queues.iter().filter_map(|queue| queue.oldest).min();
            let late = oldest.is_some_and(|oldest| now - oldest.0.as_millis() as u64 > 100);
            if late && matches!(kind, ScheduleKind::MostTokensFirst | ScheduleKind::Defrag | ScheduleKind::Roofline) {
                prop_assert_eq!(queues[chosen].oldest, oldest);
            }
        }
    }

    /// The score of the chosen queue, computed as the formula is written, is the largest.
    #[test]
    fn defrag_chooses_the_largest_score(depths in prop::collection::vec(0usize..9, 1..40)) {
        let score = |b: usize| {
            let weight = |k: usize| 0.8f64.powi(i32::try_from(k).expect("small"));
            let ahead: f64 = (1..=7).map(|k| weight(k) * depths[(b + k) % depths.len()] as f64).sum();
            ahead + depths[b] as f64
        };
        let chosen = choose(&mut Defrag::default(), &experts(&depths), 0);
        let filled = (0..depths.len()).filter(|b| depths[*b] > 0);
        let best = filled.map(score).fold(None, |best: Option<f64>, s| Some(best.map_or(s, |b| b.max(s))));
        prop_assert_eq!(chosen.is_some(), best.is_some());
        if let (Some(chosen), Some(best)) = (chosen, best) {
            prop_assert!((score(chosen) - best).abs() < 1e-9);
        }
    }
}
