//! From a plan to a tier on this machine.

use std::path::Path;

use reprise_tier::SharedTier;

use crate::config::LocalPlan;

/// Returns at once; the weights are loaded on the tier's own thread.
pub fn start(plan: &LocalPlan, model_id: &str, gguf: &Path) -> anyhow::Result<SharedTier> {
    anyhow::bail!("the engine is not wired in yet: {} {model_id} {}", plan.name, gguf.display())
}
