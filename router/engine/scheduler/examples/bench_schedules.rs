//! Microseconds per decision of each schedule on a worker that has all of 48 layers of attention and experts, with so many entries
//! waiting: `cargo run --release -p reprise-scheduler --example bench_schedules`. One CSV line per schedule and number of parts.

use std::{
    hint::black_box,
    time::{Duration, Instant},
};

use rand::{Rng, SeedableRng, rngs::SmallRng};
use reprise_scheduler::{
    Moment, QueueState, Queues, ScheduleKind, Stage, SubLayerKind,
    placement::Hosting,
    schedule::{Cost, Foreseen, StageCosts},
};

const LAYERS: usize = 48;
/// Decisions per sample, and samples.
const REPEATS: u32 = 200;
const SAMPLES: usize = 100;

fn main() {
    println!("schedule,parts_waiting,queues_filled,decision_us_p50,decision_us_p99");
    let cost = |floor, each| Cost::roofline(5e-6, floor, each);
    let costs = StageCosts {
        attention: cost(20e-6, 0.5e-6),
        expert: cost(20e-6, 0.1e-6),
        beside: cost(20e-6, 0.1e-6),
        gate: cost(2e-6, 0.1e-6),
        ..StageCosts::default()
    };
    let kinds = [SubLayerKind::Attention, SubLayerKind::Experts { experts: 64, top_k: 8 }].repeat(LAYERS);
    let hosting = Hosting { here: 64, share: 1.0, hosts: 1, each: 64.0, attends: 1, apart: true };
    let hosting = vec![hosting; kinds.len()];
    for parts in [64, 512, 2048, 16_384] {
        for kind in ScheduleKind::ALL {
            let mut schedule = kind.build(&kinds, &costs, &hosting);
            let mut random = SmallRng::seed_from_u64(parts);
            let (mut times, mut count) = (Vec::new(), 0);
            for _ in 0..SAMPLES {
                let (queues, filled) = waiting(parts, &mut random);
                count += filled.len();
                let view = Queues::alone(&queues, &filled, Moment(Duration::from_millis(50)), 256);
                let begun = Instant::now();
                for _ in 0..REPEATS {
                    black_box(schedule.next(black_box(&view)));
                }
                times.push(begun.elapsed() / REPEATS);
            }
            times.sort_unstable();
            let at = |share: usize| times[(SAMPLES - 1) * share / 100].as_secs_f64() * 1e6;
            println!("{kind},{parts},{},{:.2},{:.2}", count / SAMPLES, at(50), at(99));
        }
    }
}

/// The queues, and those that hold something.
fn waiting(parts: u64, random: &mut SmallRng) -> (Vec<QueueState>, Vec<usize>) {
    let stages = (0..LAYERS).flat_map(|layer| [Stage::SubLayer(2 * layer), Stage::Experts(2 * layer + 1)]);
    let foreseen =
        Foreseen { soon: 8.0, whole: 256.0, enter: 0.0, rows: 1.0, most: 8.0, alone: 1.0, reach: 500.0 };
    let queue = |stage| QueueState { foreseen, ..QueueState::empty(stage) };
    let mut queues: Vec<_> = stages.map(queue).collect();
    let mut filled = Vec::new();
    for _ in 0..parts {
        let queue = random.random_range(0..queues.len());
        if queues[queue].depth == 0 {
            filled.push(queue);
            queues[queue].oldest = Some(Moment(Duration::from_millis(random.random_range(0..50))));
        }
        queues[queue].depth += 1;
    }
    (queues, filled)
}
