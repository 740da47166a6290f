use std::str::FromStr;

use reprise_engine::DeviceKind;

/// A number of CPU threads, or names.
#[derive(Debug, Clone)]
pub(super) struct Devices(pub(super) Vec<DeviceKind>);

impl FromStr for Devices {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let devices = match text.parse::<u16>() {
            Ok(count) => Ok(vec![DeviceKind::Cpu; count.into()]),
            Err(_) => text.split(',').map(str::parse).collect::<Result<Vec<DeviceKind>, _>>(),
        };
        let devices = devices.map_err(|error| error.to_string())?;
        if devices.is_empty() { Err("at least one device".to_owned()) } else { Ok(Self(devices)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_or_names() {
        let parse = |text: &str| text.parse::<Devices>().map(|devices| devices.0);
        assert_eq!(parse("3"), Ok(vec![DeviceKind::Cpu; 3]));
        assert_eq!(parse("cuda:0,cuda:1"), Ok(vec![DeviceKind::Cuda(0), DeviceKind::Cuda(1)]));
        for wrong in ["0", "", "cpu,", "gpu", "cuda:0;cuda:1"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }
}
