use std::{fmt, str::FromStr};

use crate::EngineError;

/// Where a tier computes: `cpu`, or `cuda:N`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DeviceKind {
    #[default]
    Cpu,
    Cuda(usize),
}

impl fmt::Display for DeviceKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cpu => f.write_str("cpu"),
            Self::Cuda(ordinal) => write!(f, "cuda:{ordinal}"),
        }
    }
}

impl FromStr for DeviceKind {
    type Err = EngineError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == "cpu" {
            return Ok(Self::Cpu);
        }
        text.strip_prefix("cuda:")
            .and_then(|ordinal| ordinal.parse().ok())
            .map(Self::Cuda)
            .ok_or_else(|| EngineError::UnknownDevice(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_round_trip_and_others_are_refused() {
        for device in [DeviceKind::Cpu, DeviceKind::Cuda(0), DeviceKind::Cuda(3)] {
            assert_eq!(device.to_string().parse::<DeviceKind>().expect("own name"), device);
        }
        for wrong in ["", "cuda", "cuda:", "cuda:x", "gpu", "CPU"] {
            assert!(wrong.parse::<DeviceKind>().is_err(), "{wrong}");
        }
    }
}
