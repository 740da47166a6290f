//! From a plan to a tier on this machine.

use std::path::PathBuf;
use std::sync::Arc;

use reprise_engine::{LocalConfig, LocalTier};
use reprise_tier::SharedTier;

use crate::config::LocalPlan;

/// Returns at once; the weights are loaded on the tier's own thread.
pub fn start(plan: &LocalPlan, model_id: &str, gguf: PathBuf) -> SharedTier {
    Arc::new(LocalTier::load(engine_config(plan, model_id, gguf)))
}

pub fn engine_config(plan: &LocalPlan, model_id: &str, gguf: PathBuf) -> LocalConfig {
    LocalConfig {
        name: plan.name.clone(),
        model_id: model_id.to_owned(),
        gguf,
        threads: plan.threads,
        queue_capacity: plan.queue,
        cost: plan.cost,
        device: plan.device,
        context_length: plan.context_length,
        max_sequences: plan.max_sequences,
        kv_tokens: plan.kv_tokens,
        prefill_chunk: plan.prefill_chunk,
        spread: plan.spread,
    }
}
