use std::time::Duration;

use jiff::civil::date;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What a budget is for; days and months are UTC's.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Period {
    Day,
    #[default]
    Month,
    /// For good.
    Total,
}

const DAY_MS: i64 = 86_400_000;

impl Period {
    /// The number of the period that this time is in; they follow one another.
    #[must_use]
    pub fn index(self, wall_ms: i64) -> i64 {
        match self {
            Self::Day => wall_ms.div_euclid(DAY_MS),
            Self::Month => {
                let day =
                    Timestamp::from_millisecond(wall_ms).unwrap_or_default().to_zoned(TimeZone::UTC).date();
                i64::from(day.year()) * 12 + i64::from(day.month()) - 1
            }
            Self::Total => 0,
        }
    }

    /// From this time to the end of its period; `None` if that has none.
    #[must_use]
    pub fn left(self, wall_ms: i64) -> Option<Duration> {
        let end = match self {
            Self::Day => (self.index(wall_ms) + 1) * DAY_MS,
            Self::Month => {
                let next = self.index(wall_ms) + 1;
                let (year, month) =
                    (i16::try_from(next.div_euclid(12)).ok()?, i8::try_from(next.rem_euclid(12) + 1).ok()?);
                date(year, month, 1).to_zoned(TimeZone::UTC).ok()?.timestamp().as_millisecond()
            }
            Self::Total => return None,
        };
        Duration::try_from(SignedDuration::from_millis(end - wall_ms)).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> i64 {
        text.parse::<Timestamp>().unwrap().as_millisecond()
    }

    #[test]
    fn days_and_months_follow_one_another_and_end() {
        let new_year = at("2026-12-31T23:59:59Z");
        assert_eq!(Period::Day.index(new_year) + 1, Period::Day.index(new_year + 1000));
        assert_eq!(Period::Month.index(new_year) + 1, Period::Month.index(new_year + 1000));
        assert_eq!(Period::Month.left(new_year), Some(Duration::from_secs(1)));
        assert_eq!(Period::Day.left(at("2026-02-03T00:00:00Z")), Some(Duration::from_secs(86_400)));
        assert_eq!(Period::Month.left(at("2024-02-28T00:00:00Z")), Some(Duration::from_secs(2 * 86_400)));
        assert_eq!(Period::Total.left(new_year), None);
    }
}
