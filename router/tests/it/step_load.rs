//! A step of load on a simulated pool: the large tier's queue stays bounded, work is not lost to oscillation, and when
//! the load goes, quality decides again.

use std::time::{Duration, Instant};

use rand::{SeedableRng, rngs::SmallRng};
use rand_distr::{Distribution, Exp};
use reprise_router::{Arm, ArmKey, ArmState, Context, LoadConfig, Router, RouterConfig};
use reprise_tier::Pressure;

/// Requests a second: before, during and after the step, each for a while.
const PHASES: [(f64, f64); 3] = [(4.0, 60.0), (40.0, 240.0), (4.0, 120.0)];
/// Requests that a tier answers in a second.
const SPEED: [f64; 2] = [100.0, 10.0];

#[derive(Default)]
struct Trace {
    /// At each request: time, load, whether the large tier took it, seconds queued there.
    rows: Vec<(f64, f64, bool, f64)>,
}

impl Trace {
    fn during(&self, from: f64, to: f64) -> impl Iterator<Item = &(f64, f64, bool, f64)> {
        self.rows.iter().filter(move |row| (from..to).contains(&row.0))
    }

    fn large_share(&self, from: f64, to: f64) -> f64 {
        let (large, all) = self
            .during(from, to)
            .fold((0.0, 0.0), |(large, all), row| (large + f64::from(u8::from(row.2)), all + 1.0));
        large / all
    }

    fn longest_queue(&self, from: f64, to: f64) -> f64 {
        self.during(from, to).map(|row| row.3).fold(0.0, f64::max)
    }
}

fn simulate(lambda0: f64, seed: u64) -> Trace {
    let load = LoadConfig { lambda0, ..LoadConfig::default() };
    let router = Router::new(RouterConfig { load, ..RouterConfig::default() }).unwrap();
    let (mut rng, start) = (SmallRng::seed_from_u64(seed), Instant::now());
    let context = Context { prompt_tokens: 50, ..Context::default() };
    // Work queued at each tier, in its own seconds.
    let mut queued = [0.0_f64; 2];
    let (mut trace, mut now, mut phase_end) = (Trace::default(), 0.0, 0.0);
    for (rate, length) in PHASES {
        phase_end += length;
        let gap = Exp::new(rate).unwrap();
        while now < phase_end {
            let step: f64 = gap.sample(&mut rng);
            now += step;
            for work in &mut queued {
                *work = (*work - step).max(0.0);
            }
            let arms = arms(&queued);
            let decision =
                router.decide(&context, &arms, start + Duration::from_secs_f64(now), &mut rng).unwrap();
            let tier = decision.arm.tier;
            trace.rows.push((now, decision.load, tier == 1, queued[1]));
            queued[tier] += 1.0 / SPEED[tier];
        }
    }
    trace
}

fn arms(queued: &[f64; 2]) -> Vec<ArmState> {
    [("small", 0.1), ("large", 1.0)]
        .into_iter()
        .enumerate()
        .map(|(tier, (name, cost))| ArmState {
            arm: Arm { tier, examples: false },
            key: ArmKey { tier: name.into(), model: name.into(), examples: false },
            cost,
            context_length: 4096,
            ready: true,
            pressure: Pressure { queued_seconds: queued[tier], ..Pressure::default() },
        })
        .collect()
}

#[test]
fn a_step_of_load_is_absorbed_and_given_back() {
    for seed in 0..3 {
        let trace = simulate(LoadConfig::default().lambda0, seed);
        assert!(trace.large_share(10.0, 60.0) > 0.9, "at rest the better tier answers");
        // 10 of 40 requests a second are what the large tier can do: it is kept busy, not buried.
        let settled = (120.0, 300.0);
        let share = trace.large_share(settled.0, settled.1);
        assert!((0.2..0.3).contains(&share), "share of the large tier under load: {share}");
        assert!(trace.longest_queue(60.0, 300.0) < 12.0, "{}", trace.longest_queue(60.0, 300.0));
        assert!(trace.large_share(330.0, 420.0) > 0.9, "afterwards the better tier answers again");
    }
}

#[test]
fn the_load_settles_instead_of_swinging() {
    let trace = simulate(LoadConfig::default().lambda0, 7);
    let settled: Vec<f64> = trace.during(150.0, 300.0).map(|row| row.1).collect();
    let mean = settled.iter().sum::<f64>() / settled.len() as f64;
    let sd = (settled.iter().map(|load| (load - mean).powi(2)).sum::<f64>() / settled.len() as f64).sqrt();
    assert!(sd < 0.15 * mean, "load {mean} ± {sd}");
    // Neither tier is ever left alone for long: in each ten seconds both answer.
    for window in 0..15 {
        let from = 150.0 + 10.0 * f64::from(window);
        let share = trace.large_share(from, from + 10.0);
        assert!((0.1..0.45).contains(&share), "share of the large tier {share} from second {from}");
    }
}

#[test]
fn without_the_bias_the_large_tier_is_buried() {
    let trace = simulate(0.0, 0);
    assert!(trace.longest_queue(60.0, 300.0) > 100.0, "the control: what the two tests above prevent");
}
