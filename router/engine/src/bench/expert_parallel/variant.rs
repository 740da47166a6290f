use std::{fmt, str::FromStr};

use reprise_scheduler::{ScheduleKind, schedule::UnknownSchedule};

/// A schedule, and how many copies of hot groups of experts it is run with: `lockstep`, `lockstep+2`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Variant {
    pub schedule: ScheduleKind,
    /// None: as many as the measurement says.
    pub replicas: Option<usize>,
}

impl fmt::Display for Variant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.replicas {
            Some(replicas) => write!(f, "{}+{replicas}", self.schedule),
            None => self.schedule.fmt(f),
        }
    }
}

impl FromStr for Variant {
    type Err = UnknownSchedule;

    fn from_str(text: &str) -> Result<Self, UnknownSchedule> {
        let parts = text.split_once('+').and_then(|(name, replicas)| Some((name, replicas.parse().ok()?)));
        let (name, replicas) = parts.map_or((text, None), |(name, replicas)| (name, Some(replicas)));
        Ok(Self { schedule: name.parse()?, replicas })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variants_read_as_they_are_written() {
        for text in ["lockstep", "lockstep+2", "adaptive"] {
            assert_eq!(text.parse::<Variant>().expect("known").to_string(), text);
        }
        for wrong in ["", "lockstep+", "lockstep+x", "+2"] {
            assert!(wrong.parse::<Variant>().is_err(), "{wrong}");
        }
    }
}
