//! Arms for tests.

use reprise_tier::Pressure;

use crate::{Arm, ArmKey, ArmState};

pub fn arm(tier: usize, name: &str, cost: f64, examples: bool) -> ArmState {
    ArmState {
        arm: Arm { tier, examples },
        key: ArmKey { tier: name.into(), model: format!("{name}-model").into(), examples },
        cost,
        context_length: 4096,
        ready: true,
        pressure: Pressure { queue_capacity: 16, ..Pressure::default() },
    }
}

pub fn with_queue(mut state: ArmState, seconds: f64) -> ArmState {
    state.pressure.queued_seconds = seconds;
    state
}

/// Small and large, each plain and with examples.
pub fn four_arms() -> Vec<ArmState> {
    vec![
        arm(0, "small", 0.1, false),
        arm(0, "small", 0.1, true),
        arm(1, "large", 1.0, false),
        arm(1, "large", 1.0, true),
    ]
}
