use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::{BanditConfig, CostConfig, GuardConfig, LoadConfig, PolicyKind};

/// Everything that shapes a decision. Unknown keys are refused.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RouterConfig {
    pub policy: PolicyKind,
    pub load: LoadConfig,
    pub cost: CostConfig,
    pub bandit: BanditConfig,
    pub guard: GuardConfig,
    /// `static-threshold`: cosine similarity from which the cheapest tier is taken, with examples.
    pub similarity_threshold: f64,
    /// `win-probability`: least probability to take the cheapest tier.
    pub win_threshold: f64,
}

impl Default for RouterConfig {
    fn default() -> Self {
        Self {
            policy: PolicyKind::default(),
            load: LoadConfig::default(),
            cost: CostConfig::default(),
            bandit: BanditConfig::default(),
            guard: GuardConfig::default(),
            similarity_threshold: 0.8,
            win_threshold: 0.5,
        }
    }
}

/// A value outside its range.
#[derive(Debug, Clone, PartialEq, Error)]
#[error("router.{key} is {value}, but must be {range}")]
pub struct ConfigError {
    pub key: &'static str,
    pub value: f64,
    pub range: &'static str,
}

impl RouterConfig {
    /// # Errors
    /// The first value outside its range.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let Self { load, cost, bandit, guard, .. } = self;
        at_least_zero("load.lambda0", load.lambda0)?;
        at_least_zero("load.gamma", load.gamma)?;
        at_least_zero("load.theta", load.theta)?;
        positive("load.half_life_s", load.half_life_s)?;
        positive("load.capacity_s", load.capacity_s)?;
        positive("load.capacity_tokens", load.capacity_tokens)?;
        at_least_zero("cost.prefill_weight", cost.prefill_weight)?;
        within("bandit.noise_variance", bandit.noise_variance, 1e-6, 1e6, "between 1e-6 and 1e6")?;
        within("bandit.prior_sd", bandit.prior_sd, 1e-4, 1e2, "between 1e-4 and 100")?;
        within("bandit.discount", bandit.discount, 0.5, 1.0, "between 0.5 and 1")?;
        at_least_zero("bandit.indifference", bandit.indifference)?;
        at_least_zero("bandit.solicit_sd", bandit.solicit_sd)?;
        at_least_zero("guard.least", guard.least)?;
        at_least_zero("guard.z", guard.z)?;
        within("guard.fade", guard.fade, 0.5, 1.0, "between 0.5 and 1")?;
        within("guard.probe", guard.probe, 0.0, 1.0, "between 0 and 1")?;
        within("guard.radius", guard.radius, -1.0, 1.0, "between -1 and 1")?;
        within("similarity_threshold", self.similarity_threshold, -1.0, 1.0, "between -1 and 1")?;
        within("win_threshold", self.win_threshold, 0.0, 1.0, "between 0 and 1")
    }
}

fn positive(key: &'static str, value: f64) -> Result<(), ConfigError> {
    within(key, value, f64::MIN_POSITIVE, f64::MAX, "positive and finite")
}

fn at_least_zero(key: &'static str, value: f64) -> Result<(), ConfigError> {
    within(key, value, 0.0, f64::MAX, "zero or more, and finite")
}

fn within(
    key: &'static str,
    value: f64,
    low: f64,
    high: f64,
    range: &'static str,
) -> Result<(), ConfigError> {
    // Written so that NaN is refused.
    if value >= low && value <= high { Ok(()) } else { Err(ConfigError { key, value, range }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_valid_and_bad_values_are_named() {
        assert_eq!(RouterConfig::default().validate(), Ok(()));
        let mut config = RouterConfig::default();
        config.load.gamma = f64::NAN;
        assert_eq!(config.validate().unwrap_err().key, "load.gamma");
        let mut config = RouterConfig::default();
        config.bandit.discount = 0.0;
        assert!(config.validate().unwrap_err().to_string().contains("router.bandit.discount is 0"));
    }

    #[test]
    fn unknown_keys_are_refused() {
        let error = serde_json::from_str::<RouterConfig>(r#"{"load":{"lambda":1}}"#).unwrap_err();
        assert!(error.to_string().contains("lambda"), "{error}");
        assert_eq!(serde_json::from_str::<RouterConfig>("{}").unwrap(), RouterConfig::default());
    }
}
