//! Log probabilities as OpenAI and vLLM tell them: of the model as it is, log_softmax over the raw logits, before bias,
//! penalties, mask and temperature.

use super::blocks::{Maxima, mass};

/// Of one choice.
#[derive(Debug, Clone, PartialEq)]
pub struct Logprobs {
    pub chosen: f32,
    /// The likeliest tokens, most likely first, of equal ones the lowest id first.
    pub top: Vec<(u32, f32)>,
}

/// What is kept of the raw row before it is changed.
#[derive(Debug)]
pub(super) struct RawRow {
    /// Logarithm of the sum of exponentials.
    log_sum: f64,
    top: Vec<(u32, f32)>,
    /// Logits that bias and penalties will change.
    changed: Vec<(u32, f32)>,
}

impl RawRow {
    /// `count` of the likeliest are told; `changing` are the tokens whose logits will be changed.
    pub(super) fn of(
        logits: &[f32],
        maxima: &Maxima,
        count: usize,
        changing: impl Iterator<Item = u32>,
    ) -> Self {
        let top = maxima.top();
        let log_sum = if top.is_finite() { f64::from(top) + mass(logits, top, 1.0).ln() } else { top.into() };
        let changed = changing.filter_map(|token| Some((token, *logits.get(token as usize)?))).collect();
        Self { log_sum, top: likeliest(logits, maxima, count), changed }
    }

    /// `logits`: the row as bias, penalties and mask left it.
    pub(super) fn of_choice(self, token: u32, logits: &[f32]) -> Logprobs {
        let raw = self.changed.iter().find(|(changed, _)| *changed == token).map(|(_, logit)| *logit);
        let raw = raw.or_else(|| logits.get(token as usize).copied()).unwrap_or(f32::NEG_INFINITY);
        let logprob = |logit: f32| logprob(logit, self.log_sum);
        Logprobs {
            chosen: logprob(raw),
            top: self.top.iter().map(|(token, logit)| (*token, logprob(*logit))).collect(),
        }
    }
}

fn logprob(logit: f32, log_sum: f64) -> f32 {
    // Infinitely likely beside the infinitely likely.
    if f64::from(logit) == log_sum { 0.0 } else { ((f64::from(logit) - log_sum) as f32).min(0.0) }
}

fn likeliest(logits: &[f32], maxima: &Maxima, count: usize) -> Vec<(u32, f32)> {
    if count == 0 {
        return Vec::new();
    }
    let mut tokens: Vec<(u32, f32)> = maxima.tokens_from(maxima.reached_by(count), logits).collect();
    tokens.sort_unstable_by(|(a, one), (b, other)| other.total_cmp(one).then(a.cmp(b)));
    tokens.truncate(count);
    tokens
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn odd_rows_have_no_nan() {
        let of = |logits: &[f32], token| {
            RawRow::of(logits, &Maxima::of(logits), 3, std::iter::empty()).of_choice(token, logits)
        };
        let infinite = of(&[1.0, f32::INFINITY, f32::NAN, f32::NEG_INFINITY], 1);
        assert_eq!(infinite.chosen, 0.0);
        assert_eq!(infinite.top, [(1, 0.0), (0, f32::NEG_INFINITY)]);
        assert!(of(&[f32::NAN], 0).top.is_empty());
    }

    proptest! {
        #[test]
        fn they_are_the_log_softmax(logits in prop::collection::vec(-20f32..20.0, 1..300), count in 0usize..20, token in 0usize..300) {
            let token = token % logits.len();
            let raw = RawRow::of(&logits, &Maxima::of(&logits), count, std::iter::once(token as u32));
            let mut changed = logits.clone();
            changed[token] = 77.0;
            let told = raw.of_choice(token as u32, &changed);
            let sum: f64 = logits.iter().map(|logit| f64::from(*logit).exp()).sum();
            let exact: Vec<f64> = logits.iter().map(|logit| f64::from(*logit) - sum.ln()).collect();
            prop_assert!((f64::from(told.chosen) - exact[token]).abs() < 1e-5);
            let mut order: Vec<u32> = (0..logits.len() as u32).collect();
            order.sort_by(|a, b| logits[*b as usize].total_cmp(&logits[*a as usize]).then(a.cmp(b)));
            order.truncate(count);
            prop_assert_eq!(told.top.iter().map(|(token, _)| *token).collect::<Vec<_>>(), order);
            for (token, logprob) in told.top {
                prop_assert!((f64::from(logprob) - exact[token as usize]).abs() < 1e-5);
            }
        }
    }
}
