//! The load bias: under load, dear arms lose score.
//!
//! ```text
//! p_t  = max(queued_seconds / capacity_s, micro_queue_depth / capacity_tokens, kv_used)   each capped at 4
//! P    = sum_t cost_t p_t / sum_t cost_t                                                  over ready tiers
//! L   <- L + (1 - 2^(-dt / half_life)) (P - L)
//! bias = lambda0 * tanh(gamma * max(0, L - theta))
//! S_i  = mu_i - bias * C_i
//! ```
//!
//! After EchoLM, arXiv 2501.12689. Two choices are ours:
//! - A tier's pressure is its worst resource, since any one of them stalls it; 1 means full.
//! - The pool's pressure is weighted by cost. The bias can only move work from dear tiers to cheap ones, so it must
//!   follow the load of those it relieves: a full small tier beside an idle large one is no reason to send the small
//!   one more.
//!
//! The average is over time, not over requests: at ten requests a second and at a thousand it remembers equally long.

use std::time::Instant;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::ArmState;

/// The parameters of the load bias.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct LoadConfig {
    /// Score that an arm of cost 1 loses at full load.
    pub lambda0: f64,
    /// How steeply the bias grows with the load over `theta`.
    pub gamma: f64,
    /// The wanted operating point: under it quality alone decides.
    pub theta: f64,
    /// Half-life of the average of the pressure, in seconds.
    pub half_life_s: f64,
    /// Queued work that counts as pressure 1, in seconds.
    pub capacity_s: f64,
    /// Mean depth of the micro-queues that counts as pressure 1, in tokens.
    pub capacity_tokens: f64,
}

/// lambda0 of `replay/bench/runs/2026-11-26-4xh100` (`bias.csv`, simulated on two cores): at four times the large tier's capacity 2.0
/// has a quarter of 1.0's p99 for 0.008 of the score, and changes little at one and two times. theta and capacity_s are as they were: theta 0.1
/// takes the median at one time its capacity from 5.6 to 2.1 s for 0.03 of the score, and 2 s for 5 s changes little. gamma and the half-life were not varied.
impl Default for LoadConfig {
    fn default() -> Self {
        Self {
            lambda0: 2.0,
            gamma: 2.0,
            theta: 0.5,
            half_life_s: 2.0,
            capacity_s: 5.0,
            capacity_tokens: 256.0,
        }
    }
}

impl LoadConfig {
    /// What an arm of cost 1 loses at load `load`.
    #[must_use]
    pub fn bias(&self, load: f64) -> f64 {
        self.lambda0 * (self.gamma * (load - self.theta).max(0.0)).tanh()
    }

    /// P: the pool's pressure now. Each tier counts once, whatever number of arms it has.
    #[must_use]
    pub fn pressure(&self, arms: &[ArmState]) -> f64 {
        let (mut weighted, mut weights) = (0.0, 0.0);
        for (i, state) in arms.iter().enumerate() {
            let counted = arms[..i].iter().any(|earlier| earlier.arm.tier == state.arm.tier);
            if state.ready && !counted {
                let weight = state.cost.max(LEAST_WEIGHT);
                weighted += weight * self.tier_pressure(state);
                weights += weight;
            }
        }
        if weights > 0.0 { weighted / weights } else { 0.0 }
    }

    fn tier_pressure(&self, state: &ArmState) -> f64 {
        let pressure = &state.pressure;
        [
            pressure.queued_seconds / self.capacity_s,
            pressure.micro_queue_depth / self.capacity_tokens,
            pressure.kv_used,
        ]
        .into_iter()
        .filter(|p| !p.is_nan())
        .fold(0.0_f64, f64::max)
        .min(MOST_PRESSURE)
    }
}

/// A free tier still counts.
const LEAST_WEIGHT: f64 = 1e-3;
/// A burst is forgotten in bounded time.
const MOST_PRESSURE: f64 = 4.0;

/// L: the average of the pressure over time.
#[derive(Debug, Clone, Copy, Default)]
pub struct LoadAverage {
    value: f64,
    last: Option<Instant>,
}

impl LoadAverage {
    pub fn value(&self) -> f64 {
        self.value
    }

    /// Takes in the pressure seen at `now`. A clock that steps back counts as one that stands.
    pub fn observe(&mut self, pressure: f64, half_life_s: f64, now: Instant) -> f64 {
        let elapsed =
            self.last.map_or(f64::INFINITY, |last| now.saturating_duration_since(last).as_secs_f64());
        self.value += (1.0 - (-elapsed / half_life_s).exp2()) * (pressure - self.value);
        self.last = Some(self.last.map_or(now, |last| last.max(now)));
        self.value
    }
}

/// The load bias as the admin API and the metrics show it.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, JsonSchema)]
pub struct LoadReport {
    pub lambda0: f64,
    pub gamma: f64,
    pub theta: f64,
    /// L.
    pub load: f64,
    /// What an arm of cost 1 loses now: the autoscaling signal.
    pub bias: f64,
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;
    use crate::testing::{arm, with_queue};

    #[test]
    fn the_average_forgets_by_time_not_by_count() {
        let start = Instant::now();
        let run = |steps: u32| {
            let mut load = LoadAverage::default();
            load.observe(0.0, 2.0, start);
            for step in 1..=steps {
                load.observe(1.0, 2.0, start + Duration::from_secs(2) * step / steps);
            }
            load.value()
        };
        assert!((run(1) - 0.5).abs() < 1e-9, "half is forgotten after one half-life");
        assert!((run(1000) - 0.5).abs() < 1e-6);
    }

    #[test]
    fn a_clock_that_steps_back_changes_nothing() {
        let start = Instant::now() + Duration::from_secs(10);
        let mut load = LoadAverage::default();
        load.observe(1.0, 2.0, start);
        assert!((load.observe(0.0, 2.0, start - Duration::from_secs(5)) - 1.0).abs() < 1e-12);
        assert!((load.observe(0.0, 2.0, start + Duration::from_secs(2)) - 0.5).abs() < 1e-9);
    }

    #[test]
    fn the_pressure_of_the_pool_follows_its_dear_tiers() {
        let config = LoadConfig::default();
        let small_full = [with_queue(arm(0, "small", 0.1, false), 5.0), arm(1, "large", 1.0, false)];
        let large_full = [arm(0, "small", 0.1, false), with_queue(arm(1, "large", 1.0, false), 5.0)];
        assert!(config.pressure(&small_full) < 0.1);
        assert!(config.pressure(&large_full) > 0.9);
        let mut down = large_full.clone();
        down[1].ready = false;
        assert!(config.pressure(&down).abs() < 1e-12, "a tier that is down has no pressure");
    }

    proptest! {
        #[test]
        fn the_bias_is_zero_under_theta_monotone_and_bounded(a in 0.0_f64..5.0, b in 0.0_f64..5.0) {
            let config = LoadConfig::default();
            let (low, high) = (a.min(b), a.max(b));
            prop_assert!(config.bias(low) <= config.bias(high));
            prop_assert!((0.0..=config.lambda0).contains(&config.bias(high)));
            prop_assert!(high > config.theta || config.bias(high) == 0.0);
        }

        #[test]
        fn no_pressure_report_breaks_the_average(seconds: f64, depth: f64, kv: f64, half_life in 1e-3_f64..1e3) {
            let config = LoadConfig::default();
            let mut state = arm(0, "small", 0.1, false);
            state.pressure.queued_seconds = seconds;
            state.pressure.micro_queue_depth = depth;
            state.pressure.kv_used = kv;
            let mut load = LoadAverage::default();
            let value = load.observe(config.pressure(&[state]), half_life, Instant::now());
            prop_assert!((0.0..=MOST_PRESSURE).contains(&value));
        }
    }
}
