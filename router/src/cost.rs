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
//! Where the answers of every tier at hand have measured what a token takes ([`crate::TokenSeconds`]), the work is predicted
//! seconds instead: `W_i = prefill_i (prompt + examples_i) + decode_i completion`.
//!
//! An extension of the paper's score (EchoLM, arXiv 2501.12689), whose C_i is a constant of the tier: on a CPU five
//! examples can take longer to read than the large tier takes to answer, so their tokens are part of the price.

use serde::{Deserialize, Serialize};

use std::collections::HashMap;
use std::sync::Arc;

use crate::{ArmState, Context, TokenSeconds};

/// How work is priced.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct CostConfig {
    /// Cost of a prefilled token, in decoded tokens. 0.25 is an assumption, not a measurement: prefill is batched and
    /// decode is not, so that a token of a prompt takes a fraction of the time of a token of an answer.
    pub prefill_weight: f64,
    /// Tokens of an answer whose length nobody stated.
    pub typical_completion_tokens: u32,
    /// Price work by measured seconds where every tier has measured them. Off where a tier is dear for another reason than
    /// the time it takes: a remote one that is paid by the token.
    pub measured: bool,
}

impl Default for CostConfig {
    fn default() -> Self {
        Self { prefill_weight: 0.25, typical_completion_tokens: 64, measured: true }
    }
}

/// `C_i` of each arm, in order.
pub fn relative_costs(
    config: &CostConfig,
    context: &Context<'_>,
    arms: &[&ArmState],
    measured: &dyn Fn(&str) -> Option<TokenSeconds>,
) -> Vec<f64> {
    let completion = f64::from(context.completion_tokens.unwrap_or(config.typical_completion_tokens));
    let speeds = all_measured(arms, measured).filter(|_| config.measured).unwrap_or_default();
    let work = |state: &ArmState| {
        let examples = if state.arm.examples { context.example_tokens } else { 0 };
        let prompt = f64::from(context.prompt_tokens) + f64::from(examples);
        let work = match speeds.get(&state.key.tier) {
            Some(speed) => speed.prefill * prompt + speed.decode * completion,
            None => state.cost * (config.prefill_weight * prompt + completion),
        };
        if work.is_finite() { work.max(0.0) } else { 0.0 }
    };
    let mut costs: Vec<f64> = arms.iter().map(|state| work(state)).collect();
    let dearest = costs.iter().copied().fold(0.0, f64::max);
    if dearest > 0.0 {
        costs.iter_mut().for_each(|cost| *cost /= dearest);
    }
    costs
}

/// Seconds beside weighted tokens would compare nothing: all tiers or none.
fn all_measured(
    arms: &[&ArmState],
    measured: &dyn Fn(&str) -> Option<TokenSeconds>,
) -> Option<HashMap<Arc<str>, TokenSeconds>> {
    arms.iter().map(|state| Some((Arc::clone(&state.key.tier), measured(&state.key.tier)?))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::four_arms;

    fn costs(measured: &dyn Fn(&str) -> Option<TokenSeconds>) -> Vec<f64> {
        let arms = four_arms();
        let context = Context {
            similarities: &[0.9],
            example_tokens: 900,
            prompt_tokens: 100,
            completion_tokens: Some(10),
            ..Context::default()
        };
        relative_costs(&CostConfig::default(), &context, &arms.iter().collect::<Vec<_>>(), measured)
    }

    #[test]
    fn measured_seconds_count_only_if_every_tier_has_them() {
        let by_tokens = costs(&|_| None);
        let half = costs(&|tier| (tier == "small").then(TokenSeconds::default));
        assert_eq!(by_tokens, half);
        // Reading examples on the small tier takes longer than the large one takes to answer without.
        let measured = costs(&|tier| {
            let scale = if tier == "small" { 1.0 } else { 3.0 };
            Some(TokenSeconds { prefill: 0.001 * scale, decode: 0.005 * scale, answers: 9 })
        });
        assert!(measured[1] > measured[2] && by_tokens[1] < by_tokens[2], "{measured:?} {by_tokens:?}");
        assert!((measured[3] - 1.0).abs() < 1e-9);
    }
}
