use std::{fmt, str::FromStr};

use thiserror::Error;

use super::{
    Adaptive, Defrag, FirstLayerFirst, Lockstep, Mode, MostTokensFirst, Pace, Patient, Roofline, Schedule,
    StageCosts,
};
use crate::{SubLayerKind, placement::Hosting};

/// A schedule by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ScheduleKind {
    Lockstep,
    /// Lock-step with two micro-batches in flight ([`Pace::PingPong`]), as MegaScale-Infer (arXiv 2504.02263) does it: one attends while the
    /// other is with its experts. Each reads every weight, so that it pays where computing takes longer than reading.
    PingPong,
    MostTokensFirst,
    FirstLayerFirst,
    Defrag,
    Roofline,
    Adaptive,
}

/// There is no such schedule.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("no schedule `{0}`: lockstep, pingpong, mtfs, flfs, defrag, roofline or adaptive")]
pub struct UnknownSchedule(String);

impl ScheduleKind {
    pub const ALL: [Self; 7] = [
        Self::Lockstep,
        Self::PingPong,
        Self::MostTokensFirst,
        Self::FirstLayerFirst,
        Self::Defrag,
        Self::Roofline,
        Self::Adaptive,
    ];

    /// `costs` and, by sub-layer, `hosting`: what [`Roofline`] predicts from; nothing to the others.
    #[must_use]
    pub fn build(self, kinds: &[SubLayerKind], costs: &StageCosts, hosting: &[Hosting]) -> Box<dyn Schedule> {
        match self {
            Self::Lockstep | Self::PingPong => Box::new(Lockstep),
            Self::MostTokensFirst => Box::new(Patient(MostTokensFirst)),
            Self::FirstLayerFirst => Box::new(FirstLayerFirst),
            Self::Defrag => Box::new(Patient(Defrag::default())),
            Self::Roofline => Box::new(Patient(Roofline::new(kinds, *costs, hosting))),
            Self::Adaptive => Box::new(Adaptive::new(kinds, *costs, hosting)),
        }
    }

    /// Micro-batches in flight at once, at most.
    #[must_use]
    pub const fn lanes(self) -> u8 {
        match self {
            Self::PingPong | Self::Adaptive => 2,
            _ => 1,
        }
    }

    /// What it begins with.
    #[must_use]
    pub const fn mode(self) -> Mode {
        Mode::of(match self {
            Self::Lockstep | Self::Adaptive => Pace::Lockstep,
            Self::PingPong => Pace::PingPong,
            _ => Pace::Free,
        })
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Lockstep => "lockstep",
            Self::PingPong => "pingpong",
            Self::MostTokensFirst => "mtfs",
            Self::FirstLayerFirst => "flfs",
            Self::Defrag => "defrag",
            Self::Roofline => "roofline",
            Self::Adaptive => "adaptive",
        }
    }
}

impl fmt::Display for ScheduleKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for ScheduleKind {
    type Err = UnknownSchedule;

    fn from_str(name: &str) -> Result<Self, UnknownSchedule> {
        let found = Self::ALL.into_iter().find(|kind| kind.name() == name);
        found.ok_or_else(|| UnknownSchedule(name.to_owned()))
    }
}
