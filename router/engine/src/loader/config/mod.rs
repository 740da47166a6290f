//! The settings of a checkpoint, whichever container they stand in.

mod folder;
mod gguf;

use reprise_kernels::rope::Pairing;

use super::{families::Family, names::Part};
use crate::{
    EngineError,
    graph::{RopeScaling, Sizes},
};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Container {
    Gguf,
    /// `config.json` and safetensors.
    Folder,
}

/// Checked by [`Config::check`].
#[derive(Debug)]
pub(super) struct Config {
    pub(super) container: Container,
    pub(super) family: &'static Family,
    pub(super) layers: usize,
    pub(super) sizes: Sizes,
    /// Of dense feed-forwards.
    pub(super) width: usize,
    pub(super) rope_base: f64,
    pub(super) rope_scaling: RopeScaling,
    pub(super) pairing: Pairing,
    pub(super) qkv_bias: bool,
    /// Whether the embedding is the output matrix; none: if the checkpoint has no output matrix.
    pub(super) tied: Option<bool>,
    pub(super) experts: Option<ExpertConfig>,
}

#[derive(Debug)]
pub(super) struct ExpertConfig {
    pub(super) count: usize,
    pub(super) top_k: usize,
    /// Of one expert.
    pub(super) width: usize,
    pub(super) shared_width: Option<usize>,
    pub(super) renormalise: bool,
    /// Which layers have experts; none: those with a tensor for the gate.
    pub(super) layers: Option<Vec<bool>>,
}

impl ExpertConfig {
    /// `has`: whether the layer has a tensor for a part.
    pub(super) fn in_layer(&self, layer: usize, has: impl Fn(Part) -> bool) -> bool {
        match &self.layers {
            Some(layers) => layers.get(layer).copied().unwrap_or(false),
            None => has(Part::ExpertGate),
        }
    }
}

impl Config {
    pub(super) fn check(mut self) -> Result<Self, EngineError> {
        self.sizes = self.sizes.check()?;
        if self.layers == 0 || self.layers > 4096 {
            return Err(EngineError::Inconsistent(format!("{} layers", self.layers)));
        }
        if !(self.rope_base > 1.0 && self.rope_base.is_finite()) {
            return Err(EngineError::Inconsistent(format!("rope base {}", self.rope_base)));
        }
        check_scaling(&self.rope_scaling, self.sizes.head_dim)?;
        if let Some(ExpertConfig { count, top_k, .. }) = self.experts
            && (top_k == 0 || top_k > count || count > usize::from(u16::MAX))
        {
            return Err(EngineError::Inconsistent(format!("the top {top_k} of {count} experts")));
        }
        Ok(self)
    }
}

fn check_scaling(scaling: &RopeScaling, head_dim: usize) -> Result<(), EngineError> {
    let positive = |numbers: &[f64]| numbers.iter().all(|n| n.is_finite() && *n > 0.0);
    let sound = match scaling {
        RopeScaling::None => true,
        RopeScaling::Linear { factor } => positive(&[*factor]),
        RopeScaling::Llama3 { factor, low, high, original } => {
            positive(&[*factor, *low, *high, *original]) && high > low
        }
        RopeScaling::Yarn(yarn) => {
            positive(&[yarn.factor, yarn.original, yarn.beta_fast, yarn.beta_slow])
                && yarn.magnitude.is_none_or(|magnitude| positive(&[magnitude]))
        }
        RopeScaling::Divisors(divisors) => {
            divisors.len() == head_dim / 2 && divisors.iter().all(|d| positive(&[f64::from(*d)]))
        }
    };
    if sound { Ok(()) } else { Err(EngineError::Inconsistent(format!("rope scaling {scaling:?}"))) }
}
