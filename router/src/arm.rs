use std::{fmt, sync::Arc};

use reprise_tier::Pressure;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// One thing that the router can choose: a tier of the pool, shown the selected examples or not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub struct Arm {
    /// Index into the pool, which is ordered by cost.
    pub tier: usize,
    pub examples: bool,
}

/// An arm's name across restarts and changes of the pool: what is learned hangs on it.
///
/// Another model behind the same tier name is another key, so that a changed tier starts cold.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
pub struct ArmKey {
    pub tier: Arc<str>,
    pub model: Arc<str>,
    pub examples: bool,
}

impl fmt::Display for ArmKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.tier, if self.examples { "with examples" } else { "plain" })
    }
}

/// An arm and the present state of its tier.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ArmState {
    pub arm: Arm,
    pub key: ArmKey,
    /// Relative cost of one token on this tier, in [0, 1].
    pub cost: f64,
    /// Prompt and completion together, in tokens.
    pub context_length: u32,
    pub ready: bool,
    pub pressure: Pressure,
}

impl ArmState {
    /// True if the tier would refuse another request now.
    #[must_use]
    pub fn is_saturated(&self) -> bool {
        self.pressure.queue_capacity > 0 && self.pressure.waiting >= self.pressure.queue_capacity
    }
}
