//! Fewer examples while the tier's KV memory is scarce: they are the part of a prompt that can be left out.
//!
//! ```text
//! share = clamp((1 - kv_used) / (1 - EASY), 0, 1)            1 up to EASY, 0 where the memory is full
//! examples and tokens are cut to that share;  tau rises from tau to tau + (1 - tau) * TIGHTEN as share falls to 0
//! ```

use super::SelectionConfig;

/// Share of the KV memory in use up to which nothing changes. An assumption: a sequence that starts now holds its
/// blocks for as long as it runs, so that the brake must come well before the memory is full.
const EASY: f32 = 0.5;
/// How far tau goes up towards 1 when nothing is free. An assumption as well.
const TIGHTEN: f32 = 0.5;

impl SelectionConfig {
    /// This configuration while so much of the tier's KV memory is in use, in [0, 1]. What is not a number is taken for 0.
    #[must_use]
    pub fn while_kv_used(self, kv_used: f64) -> Self {
        let share = ((1.0 - kv_used as f32) / (1.0 - EASY)).clamp(0.0, 1.0);
        if share.is_nan() || share >= 1.0 {
            return self;
        }
        Self {
            tau: self.tau + (1.0 - self.tau) * TIGHTEN * (1.0 - share),
            // Rounded up: the last example goes only when nothing is free.
            max_examples: (self.max_examples as f32 * share).ceil() as usize,
            token_budget: (self.token_budget as f32 * share) as u32,
            ..self
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn half_full_changes_nothing_and_full_leaves_nothing() {
        let config = SelectionConfig::default();
        assert_eq!(config.while_kv_used(0.5), config);
        assert_eq!(config.while_kv_used(f64::NAN), config);
        assert_eq!(config.while_kv_used(1.0).max_examples, 0);
        let three_quarters = config.while_kv_used(0.75);
        assert_eq!((three_quarters.max_examples, three_quarters.token_budget), (3, 512));
        assert!((three_quarters.tau - 0.625).abs() < 1e-6);
    }

    proptest! {
        #[test]
        fn more_in_use_never_allows_more(a in 0.0_f64..1.2, b in 0.0_f64..1.2) {
            let config = SelectionConfig::default();
            let (free, full) = (config.while_kv_used(a.min(b)), config.while_kv_used(a.max(b)));
            prop_assert!(full.max_examples <= free.max_examples);
            prop_assert!(full.token_budget <= free.token_budget && full.tau >= free.tau);
            prop_assert!((0.0..=1.0).contains(&full.tau));
        }
    }
}
