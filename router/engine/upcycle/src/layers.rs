use std::{fmt, str::FromStr};

use thiserror::Error;

use crate::UpcycleError;

/// Which layers are upcycled, counted from 0: `all`, `every:3` (2, 5, 8, ...) or a list such as `0,4,9`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Layers {
    All,
    /// The last of each group of so many, at least 1.
    Every(u32),
    /// Ascending.
    Listed(Vec<u32>),
}

#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("`{0}` names no layers: expected `all`, `every:N` or a list such as `0,4,9`")]
pub struct LayersError(String);

impl Layers {
    /// Those of a model of so many layers, ascending.
    ///
    /// # Errors
    /// A listed layer does not exist, or none was chosen.
    pub fn of(&self, count: u32) -> Result<Vec<u32>, UpcycleError> {
        let chosen: Vec<u32> = match self {
            Self::All => (0..count).collect(),
            Self::Every(step) => (0..count).filter(|layer| (layer + 1) % step == 0).collect(),
            Self::Listed(layers) => layers.clone(),
        };
        match chosen.last() {
            None => Err(UpcycleError::NoLayer),
            Some(last) if *last >= count => {
                Err(UpcycleError::NoSuchLayer { layer: *last, last: count.saturating_sub(1) })
            }
            Some(_) => Ok(chosen),
        }
    }
}

impl FromStr for Layers {
    type Err = LayersError;

    fn from_str(text: &str) -> Result<Self, LayersError> {
        let error = || LayersError(text.to_owned());
        if text == "all" {
            return Ok(Self::All);
        }
        if let Some(step) = text.strip_prefix("every:") {
            let step = step.parse().ok().filter(|step| *step > 0);
            return step.map(Self::Every).ok_or_else(error);
        }
        let layers = text.split(',').map(|layer| layer.trim().parse());
        let mut layers: Vec<u32> = layers.collect::<Result<_, _>>().map_err(|_| error())?;
        layers.sort_unstable();
        layers.dedup();
        Ok(Self::Listed(layers))
    }
}

impl fmt::Display for Layers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.write_str("all"),
            Self::Every(step) => write!(f, "every:{step}"),
            Self::Listed(layers) => {
                let layers: Vec<String> = layers.iter().map(u32::to_string).collect();
                f.write_str(&layers.join(","))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn forms() {
        assert_eq!(
            "every:3".parse::<Layers>().unwrap().of(30).unwrap(),
            (2..30).step_by(3).collect::<Vec<_>>()
        );
        assert_eq!("all".parse::<Layers>().unwrap().of(3).unwrap(), [0, 1, 2]);
        assert_eq!("4, 0,4".parse::<Layers>().unwrap().of(5).unwrap(), [0, 4]);
        for wrong in ["", "every:0", "every:", "1,,2", "-1", "some"] {
            assert!(wrong.parse::<Layers>().is_err(), "{wrong}");
        }
        let beyond = "0,30".parse::<Layers>().unwrap().of(30);
        assert!(matches!(beyond, Err(UpcycleError::NoSuchLayer { layer: 30, last: 29 })), "{beyond:?}");
        assert!(matches!(Layers::Every(4).of(3), Err(UpcycleError::NoLayer)));
    }

    proptest! {
        #[test]
        fn shown_as_it_is_read(mut layers in prop::collection::btree_set(0_u32..100, 1..8)) {
            layers.insert(3);
            let layers = Layers::Listed(layers.into_iter().collect());
            prop_assert_eq!(layers.to_string().parse::<Layers>().unwrap(), layers);
        }
    }
}
