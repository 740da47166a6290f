//! `C_i`: what an arm's answer would cost, relative to the dearest arm at hand.
//!
//! ```text
//! W_i = cost_i * (w * (prompt + examples_i) + completion)      tokens, weighted
//! C_i = W_i / max_j W_j                                         in [0, 1]
//! ```
//!
//! `cost_i` is the tier's cost of one decoded token, `w` what a prefilled token costs beside a decoded one,
//! `examples_i` the tokens of the selected examples on an arm that shows them, else 0.
//!
//! An extension of the paper's score (EchoLM, arXiv 2501.12689), whose C_i is a constant of the tier: on a CPU five
//! examples can take longer to read than the large tier takes to answer, so their tokens are part of the price.

use serde::{Deserialize, Serialize};

use crate::{ArmState, Context};

/// How work is priced.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CostConfig {
    /// Cost of a prefilled token, in decoded tokens. 0.25 is an assumption, not a measurement: prefill is batched and
    /// decode is not, so that a token of a prompt takes a fraction of the time of a token of an answer.
    pub prefill_weight: f64,
    /// Tokens of an answer whose length nobody stated.
    pub typical_completion_tokens: u32,
}

impl Default for CostConfig {
    fn default() -> Self {
        Self { prefill_weight: 0.25, typical_completion_tokens: 64 }
    }
}

/// `C_i` of each arm, in order.
pub fn relative_costs(config: &CostConfig, context: &Context<'_>, arms: &[&ArmState]) -> Vec<f64> {
    let completion = f64::from(context.completion_tokens.unwrap_or(config.typical_completion_tokens));
    let work = |state: &ArmState| {
        let examples = if state.arm.examples { context.example_tokens } else { 0 };
        let prompt = f64::from(context.prompt_tokens) + f64::from(examples);
        let work = state.cost * (config.prefill_weight * prompt + completion);
        if work.is_finite() { work.max(0.0) } else { 0.0 }
    };
    let mut costs: Vec<f64> = arms.iter().map(|state| work(state)).collect();
    let dearest = costs.iter().copied().fold(0.0, f64::max);
    if dearest > 0.0 {
        costs.iter_mut().for_each(|cost| *cost /= dearest);
    }
    costs
}
