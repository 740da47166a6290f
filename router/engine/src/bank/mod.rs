//! Expert banks: versions of a model's experts over one backbone.
//!
//! A bank is a base model and a chain of delta files, `base -> v1 -> v2`. A delta names its parent by hash and changes some
//! expert matrices: it replaces a matrix, or adds to it. A matrix of the bank is what the chain makes of the base's: the last
//! replacement, plus all additions after it. Other weights (attention, gates, norms) are the backbone's, and no delta touches
//! them. A delta can say which domain it is for: the centroid of that domain's texts as the embedder sees them.
//!
//! A device asks [`Bank::change`] for each expert matrix that it holds (the CPU: `CpuBackend::apply`). A [`Bank`] never changes: to
//! swap versions at run time, make the new one beside it, and make anew from the base what [`Bank::differences`] names.
//!
//! Absences: no device and no model in here, no search for files.

mod chain;
mod delta;
mod error;
mod file;
mod hash;
mod model;
#[cfg(test)]
mod tests;

use std::fmt;

pub use chain::{Bank, Change};
pub use delta::{Delta, DeltaInfo, Edit};
pub use error::BankError;
pub use hash::BankHash;

/// One matrix of one expert.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ExpertMatrix {
    /// The transformer layer, counted from 0 as in the checkpoint; dense layers count.
    pub layer: u32,
    pub expert: u16,
    pub part: Part,
}

/// Of `down(silu(gate(x)) * up(x))`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Part {
    /// [width, hidden]
    Gate,
    /// [width, hidden]
    Up,
    /// [hidden, width]
    Down,
}

/// `[outputs, inputs]`
pub type Shape = [usize; 2];

impl Part {
    pub const ALL: [Self; 3] = [Self::Gate, Self::Up, Self::Down];

    const fn name(self) -> &'static str {
        match self {
            Self::Gate => "gate",
            Self::Up => "up",
            Self::Down => "down",
        }
    }
}

/// As in a delta file: `layers.2.experts.0.up`.
impl fmt::Display for ExpertMatrix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "layers.{}.experts.{}.{}", self.layer, self.expert, self.part.name())
    }
}

impl ExpertMatrix {
    fn parse(name: &str) -> Option<Self> {
        let (layer, rest) = name.strip_prefix("layers.")?.split_once(".experts.")?;
        let (expert, part) = rest.split_once('.')?;
        let part = Part::ALL.into_iter().find(|known| known.name() == part)?;
        Some(Self { layer: layer.parse().ok()?, expert: expert.parse().ok()?, part })
    }
}
