//! From a checkpoint's header to a graph of plans: which tensor, in which format and shape, is which weight.
//!
//! Two containers (GGUF files, safetensors folders) name tensors and settings in their own ways; families differ in what
//! `Family` says, each in its own file. All is checked here, before any weight is read: a graph of plans fits together.

mod config;
mod families;
mod names;
mod planner;
mod random;
mod read;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};

use reprise_kernels::matrix::Format;

use crate::{
    EngineError,
    gguf::Gguf,
    graph::{Graph, Layout},
    source::{RandomWeights, Safetensors, TensorSource},
};
use config::Config;

pub(crate) use read::{read_matrix, read_vector};

/// A matrix of a checkpoint: `outputs` rows of `inputs` weights, from byte `start` of a tensor on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MatrixPlan {
    pub tensor: String,
    pub start: usize,
    pub format: Format,
    pub outputs: usize,
    pub inputs: usize,
    pub bias: Option<VectorPlan>,
}

/// A vector of a checkpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VectorPlan {
    pub tensor: String,
    pub format: Format,
    pub len: usize,
}

/// A model as its checkpoint's header describes it.
pub type Plan = Graph<MatrixPlan, VectorPlan>;

impl MatrixPlan {
    /// Bytes in the file, without the bias.
    #[must_use]
    pub fn bytes(&self) -> usize {
        // The planner has seen that rows are whole blocks.
        self.format.row_bytes(self.inputs).unwrap_or(0) * self.outputs
    }
}

impl VectorPlan {
    /// Bytes in the file.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.format.row_bytes(self.len).unwrap_or(0)
    }
}

/// An open checkpoint whose header was read and checked.
#[derive(Debug)]
pub struct Checkpoint {
    path: PathBuf,
    family: &'static str,
    plan: Plan,
    source: Box<dyn TensorSource>,
}

impl Checkpoint {
    /// Opens a GGUF file, or a folder with `config.json` and safetensors.
    ///
    /// # Errors
    /// It cannot be read, is of no known family, or its tensors do not fit each other and the configuration: the error then
    /// names the tensor and both shapes.
    pub fn open(path: &Path) -> Result<Self, EngineError> {
        if path.is_dir() {
            let config = Config::from_folder(path)?;
            Self::new(path.to_owned(), &config, Box::new(Safetensors::open(path)?))
        } else {
            Self::from_gguf(Gguf::open(path)?)
        }
    }

    /// A known shape with random weights in bf16: `mixtral-8x7b`, `olmoe-1b-7b`, `qwen3-30b-a3b`, and tiny ones. For measuring speed; what
    /// it generates means nothing.
    ///
    /// # Errors
    /// There is no such shape.
    pub fn random(name: &str) -> Result<Self, EngineError> {
        Self::random_cut(name, None, None)
    }

    /// The same with fewer layers, and another number of experts of a token.
    ///
    /// # Errors
    /// There is no such shape, or it has not so many.
    pub fn random_cut(name: &str, layers: Option<usize>, top_k: Option<usize>) -> Result<Self, EngineError> {
        let (config, tensors) = random::random(name, layers, top_k)?;
        Self::new(PathBuf::from(format!("random:{name}")), &config, Box::new(RandomWeights::new(tensors)))
    }

    /// # Errors
    /// As [`Self::open`].
    pub fn from_gguf(mut gguf: Gguf) -> Result<Self, EngineError> {
        let config = Config::from_gguf(&mut gguf)?;
        Self::new(gguf.path().to_owned(), &config, Box::new(gguf))
    }

    /// The settings of one file and the tensors of another source.
    #[cfg(test)]
    pub(crate) fn with_source(gguf: &mut Gguf, source: Box<dyn TensorSource>) -> Result<Self, EngineError> {
        let config = Config::from_gguf(gguf)?;
        Self::new(gguf.path().to_owned(), &config, source)
    }

    fn new(path: PathBuf, config: &Config, source: Box<dyn TensorSource>) -> Result<Self, EngineError> {
        let plan = planner::plan(config, &*source)?;
        Ok(Self { path, family: config.family.name, plan, source })
    }

    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// `llama`, `qwen2`, `mixtral`, `qwen2_moe`, `qwen3_moe` or `olmoe`.
    #[must_use]
    pub const fn family(&self) -> &'static str {
        self.family
    }

    #[must_use]
    pub const fn plan(&self) -> &Plan {
        &self.plan
    }

    #[must_use]
    pub fn layout(&self) -> Layout {
        self.plan.layout()
    }

    /// What to load, and where from.
    pub(crate) fn parts(&mut self) -> (&Plan, &mut dyn TensorSource) {
        (&self.plan, &mut *self.source)
    }
}
