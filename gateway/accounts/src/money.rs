//! Money in whole billionths of the operator's currency, whichever that is: sums are exact.

use serde::{Deserialize, Serialize};

const NANOS: f64 = 1e9;

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Money(u64);

impl Money {
    pub const ZERO: Self = Self(0);

    #[must_use]
    pub const fn of_nanos(nanos: u64) -> Self {
        Self(nanos)
    }

    /// `None` for what is no amount: negative, infinite, or more than 18 billion.
    #[must_use]
    pub fn of_units(units: f64) -> Option<Self> {
        let nanos = (units * NANOS).round();
        (0.0..1.8e19).contains(&nanos).then_some(Self(nanos as u64))
    }

    #[must_use]
    pub fn nanos(self) -> u64 {
        self.0
    }

    #[must_use]
    pub fn units(self) -> f64 {
        self.0 as f64 / NANOS
    }

    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }

    #[must_use]
    pub fn minus(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }
}

/// What a tier's tokens cost, each.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Price {
    pub prompt: Money,
    pub completion: Money,
}

impl Price {
    /// From prices for a million tokens, as lists of prices have them; a thousandth of a unit is the finest.
    #[must_use]
    pub fn per_million(prompt: f64, completion: f64) -> Option<Self> {
        let each = |price: f64| Money::of_units(price / 1e6);
        Some(Self { prompt: each(prompt)?, completion: each(completion)? })
    }

    #[must_use]
    pub fn of(&self, prompt_tokens: u64, completion_tokens: u64) -> Money {
        let prompt = self.prompt.0.saturating_mul(prompt_tokens);
        Money(prompt.saturating_add(self.completion.0.saturating_mul(completion_tokens)))
    }

    /// The dearer of the two in each kind of token: what bounds both.
    #[must_use]
    pub fn at_least(self, other: Self) -> Self {
        Self { prompt: self.prompt.max(other.prompt), completion: self.completion.max(other.completion) }
    }
}

/// `Option<Money>` as a number of units, for files and bodies that people write.
pub mod units {
    use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};

    use super::Money;

    /// # Errors
    /// The serializer's own.
    pub fn serialize<S: Serializer>(money: &Option<Money>, to: S) -> Result<S::Ok, S::Error> {
        money.map(Money::units).serialize(to)
    }

    /// # Errors
    /// What is no amount of money.
    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Money>, D::Error> {
        let Some(units) = Option::<f64>::deserialize(from)? else { return Ok(None) };
        Money::of_units(units)
            .map(Some)
            .ok_or_else(|| D::Error::custom(format!("{units} is no amount of money")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prices_are_exact() {
        let price = Price::per_million(0.15, 0.6).unwrap();
        assert_eq!(price.of(1_000_000, 1_000_000), Money::of_units(0.75).unwrap());
        assert_eq!(price.of(1, 0), Money::of_nanos(150));
        assert_eq!(Money::of_units(-1.0), None);
        assert_eq!(Money::of_units(f64::NAN), None);
        assert_eq!(price.of(u64::MAX, u64::MAX), Money::of_nanos(u64::MAX), "no overflow");
    }
}
