use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// The policies by name.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum PolicyKind {
    #[default]
    Bandit,
    SmallPlain,
    SmallExamples,
    LargePlain,
    LargeExamples,
    Random,
    Reuse,
    StaticThreshold,
    WinProbability,
}

impl PolicyKind {
    pub const ALL: [Self; 9] = [
        Self::Bandit,
        Self::SmallPlain,
        Self::SmallExamples,
        Self::LargePlain,
        Self::LargeExamples,
        Self::Random,
        Self::Reuse,
        Self::StaticThreshold,
        Self::WinProbability,
    ];

    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Bandit => "bandit",
            Self::SmallPlain => "small-plain",
            Self::SmallExamples => "small-examples",
            Self::LargePlain => "large-plain",
            Self::LargeExamples => "large-examples",
            Self::Random => "random",
            Self::Reuse => "reuse",
            Self::StaticThreshold => "static-threshold",
            Self::WinProbability => "win-probability",
        }
    }
}

impl fmt::Display for PolicyKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// No policy has this name.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error(
    "unknown policy \"{0}\"; known are bandit, small-plain, small-examples, large-plain, large-examples, random, reuse, static-threshold, win-probability"
)]
pub struct UnknownPolicy(pub String);

impl FromStr for PolicyKind {
    type Err = UnknownPolicy;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == name).ok_or_else(|| UnknownPolicy(name.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_read_back_and_agree_with_serde() {
        for kind in PolicyKind::ALL {
            assert_eq!(kind.to_string().parse::<PolicyKind>(), Ok(kind));
            assert_eq!(serde_json::to_value(kind).unwrap(), kind.as_str());
            assert!(UnknownPolicy(String::new()).to_string().contains(kind.as_str()));
        }
        assert!("best".parse::<PolicyKind>().is_err());
    }
}
