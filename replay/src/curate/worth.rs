//! Is a replay worth its tokens?
//!
//! - expected reuses = uses, and times that only its poor answer kept it from being used, per hour of the example's life so far (at least one hour) times the horizon in hours;
//! - saving = `G(e)` times expected reuses times the tokens of one exchange (request and answer): `G(e)` is
//!   the share of a dearest-tier answer that a use has been losing, so this is in tokens of the best tier;
//! - chance that the replay finds a better answer = 1 / (replays + 1): where each replay's best is as likely as any other's to be the best of
//!   all, the next one is so with that probability. What was asked often and stood will hardly be beaten by asking again;
//! - replay cost = asks times the tokens of one exchange, and what the judge reads and writes.
//!
//! It pays while saving times chance is at least the cost. Tokens are estimated as bytes over four; only their ratio
//! matters here, and it is the same text on both sides.

use crate::gateway::admin::Example;

/// Both sides of the decision, in tokens.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Worth {
    /// If the replay finds a better answer.
    pub saving: f64,
    /// That it does, in (0, 1].
    pub chance: f64,
    pub replay_cost: f64,
}

impl Worth {
    #[must_use]
    pub fn expected_saving(&self) -> f64 {
        self.saving * self.chance
    }

    /// `hits`: how much less often than that replays have found better answers lately, in (0, 1].
    #[must_use]
    pub fn pays(&self, hits: f64) -> bool {
        self.expected_saving() * hits >= self.replay_cost
    }

    /// Tokens saved for each token spent: the order in which examples are replayed.
    #[must_use]
    pub fn ratio(&self) -> f64 {
        self.expected_saving() / self.replay_cost.max(1.0)
    }
}

/// `asks` answers will be asked for and `judge_exchanges` exchanges' worth of tokens spent on judging.
#[must_use]
pub fn worth(example: &Example, asks: u32, judge_exchanges: f64, horizon_h: f64, now_ms: i64) -> Worth {
    let age_h = (now_ms.saturating_sub(example.created_at_ms) as f64 / 3_600_000.0).max(1.0);
    let reuses = example.uses.saturating_add(example.missed) as f64 / age_h * horizon_h;
    let exchange = tokens(&example.request) + tokens(&example.answer);
    Worth {
        saving: example.replay_gain.clamp(0.0, 1.0) * reuses * exchange,
        chance: 1.0 / (f64::from(example.replays) + 1.0),
        replay_cost: (f64::from(asks) + judge_exchanges) * exchange,
    }
}

fn tokens(text: &str) -> f64 {
    (text.len() as f64 / 4.0).max(1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example(uses: u64, gain: f64, age_h: i64) -> Example {
        Example {
            id: "e".into(),
            request: "r".repeat(40),
            answer: "a".repeat(20),
            source_tier: "small".into(),
            quality: None,
            created_at_ms: -age_h * 3_600_000,
            replay_gain: gain,
            uses,
            missed: 0,
            replays: 0,
            context_free: true,
        }
    }

    #[test]
    fn by_hand() {
        // 10 uses in 5 hours, 24 hours ahead: 48 reuses of 15 tokens, half of which is lost.
        let worth = worth(&example(10, 0.5, 5), 4, 1.0, 24.0, 0);
        assert!((worth.saving - 360.0).abs() < 1e-9);
        assert!((worth.replay_cost - 75.0).abs() < 1e-9);
        assert!(worth.pays(1.0) && worth.pays(0.21) && !worth.pays(0.2));
    }

    #[test]
    fn the_more_often_it_stood_the_less_asking_again_promises() {
        let after = |replays| worth(&Example { replays, ..example(10, 0.5, 5) }, 4, 1.0, 24.0, 0);
        let ratios: Vec<f64> = (0..5).map(|replays| after(replays).ratio()).collect();
        assert!((ratios[0] - 4.8).abs() < 1e-9 && (ratios[1] - 2.4).abs() < 1e-9, "{ratios:?}");
        assert!(after(3).pays(1.0) && !after(4).pays(1.0));
    }

    #[test]
    fn what_is_never_used_or_loses_nothing_does_not_pay() {
        assert!(!worth(&example(0, 1.0, 5), 4, 0.0, 24.0, 0).pays(1.0));
        assert!(!worth(&example(1000, 0.0, 5), 4, 0.0, 24.0, 0).pays(1.0));
    }

    #[test]
    fn one_that_is_too_poor_to_be_shown_is_worth_mending() {
        let poor = Example { missed: 48, ..example(0, 0.9, 24) };
        assert!(worth(&poor, 4, 1.0, 24.0, 0).pays(1.0));
    }

    #[test]
    fn a_minute_of_use_is_not_taken_for_a_rate() {
        let young = worth(&example(1, 1.0, 0), 1, 0.0, 1.0, 60_000);
        assert!((young.saving - 15.0).abs() < 1e-9);
    }
}
