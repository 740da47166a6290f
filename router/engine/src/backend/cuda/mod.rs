//! A model on an NVIDIA GPU.
//!
//! [`Backend::step`] computes a tick in one call: all launches are queued on one stream, the experts of a token are known to the device
//! alone, and the host waits only for the chosen tokens (or logits). A tick that only generates is recorded once for each size and then
//! repeated as one launch. The calls for single sub-layers do the same with the same kernels on an arena of hidden states, for
//! schedules that need them; they wait for the host where experts are chosen.
//!
//! Both keep the contract of [`Backend`] bit for bit on one GPU (see `reprise_cuda`). Against the CPU, which rounds activations to 8 bits
//! where weights are quantised, results are equal up to rounding: so is the text, up to ties.

mod arena;
mod exchange;
mod inputs;
mod load;
mod memory;
mod model;
mod parts;
mod pieces;
mod sizes;
mod step;
mod work;

use std::{collections::HashMap, sync::Arc};

use reprise_cuda::{Buffer, CudaError, Device, LaunchGraph, Outbox};
use reprise_scheduler::{
    AttentionRow, Backend, BackendError, ExpertId, Heads, ModelLayout, PartWork, Row, StepRow, SubLayerId,
};

use crate::{EngineError, backend::Progress, loader::Checkpoint};
use inputs::Inputs;
use model::Model;
use sizes::StepSizes;
use work::Work;

pub use memory::{available, estimate};

/// How much memory a model may use besides its weights.
#[derive(Debug, Clone)]
pub struct CudaOptions {
    /// `cuda:N`
    pub ordinal: usize,
    /// Tokens computed in one tick, at most.
    pub rows: usize,
    /// Sequences computed at once, at most: so many logits and block tables.
    pub sequences: usize,
    /// Of 32 tokens of one sequence, for all layers.
    pub kv_blocks: usize,
    /// Upper bound on the context in tokens; the model's own bound holds as well.
    pub context_length: Option<usize>,
}

/// Weights, KV and hidden states of one model in a GPU's memory.
#[derive(Debug)]
pub struct CudaBackend {
    // Recorded launches go before the buffers that they use.
    graphs: HashMap<StepSizes, LaunchGraph>,
    device: Arc<Device>,
    layout: ModelLayout,
    /// Shared by workers on one GPU.
    model: Arc<Model>,
    /// Cosine and sine, [positions, head_dim / 2].
    turns: Buffer<[f32; 2]>,
    work: Work,
    inputs: Inputs,
    arena: arena::Arena,
    outbox: Outbox,
}

impl CudaBackend {
    /// Reads the weights of a checkpoint to the GPU. `progress` is told of every tensor, `stop` is asked before each.
    ///
    /// # Errors
    /// There is no such GPU or no room on it, it cannot compute the model, a file cannot be read, or `stop` said so
    /// ([`EngineError::Stopped`]).
    pub fn load(
        checkpoint: &mut Checkpoint,
        options: &CudaOptions,
        progress: &mut dyn FnMut(Progress),
        stop: &dyn Fn() -> bool,
    ) -> Result<Self, EngineError> {
        let device = Device::open(options.ordinal)?;
        Self::load_on(&device, checkpoint, options, progress, stop)
    }

    /// The same on a device that is open: several models may share it, each in its turn on its stream.
    ///
    /// # Errors
    /// As [`Self::load`].
    pub fn load_on(
        device: &Arc<Device>,
        checkpoint: &mut Checkpoint,
        options: &CudaOptions,
        progress: &mut dyn FnMut(Progress),
        stop: &dyn Fn() -> bool,
    ) -> Result<Self, EngineError> {
        let layout = memory::layout(checkpoint.plan(), options)?;
        let model = load::load(device, checkpoint, progress, stop)?;
        Self::new(device, Arc::new(model), layout, options)
    }

    /// Another worker on the same GPU: a stream, KV and hidden states of its own, the same weights.
    ///
    /// # Errors
    /// There is no room, or the device failed.
    pub fn sibling(&self, options: &CudaOptions) -> Result<Self, EngineError> {
        let own = self.layout.context_length;
        let layout = ModelLayout {
            rows: options.rows,
            kv_blocks: options.kv_blocks,
            context_length: options.context_length.map_or(own, |most| most.min(own)),
            ..self.layout.clone()
        };
        // The weights were written on the other's stream.
        self.device.synchronize()?;
        Self::new(&self.device.sibling()?, Arc::clone(&self.model), layout, options)
    }

    fn new(
        device: &Arc<Device>,
        model: Arc<Model>,
        layout: ModelLayout,
        options: &CudaOptions,
    ) -> Result<Self, EngineError> {
        let turns = Buffer::from_slice(device, &turns(&model, layout.context_length))?;
        let work = Work::new(device, &model, &layout, options)?;
        let inputs = Inputs::new(device, &layout, options, model.sizes.heads / model.sizes.kv_heads)?;
        let (graphs, arena, outbox) = (HashMap::new(), arena::Arena::default(), Outbox::new(device));
        let device = Arc::clone(device);
        Ok(Self { graphs, device, layout, model, turns, work, inputs, arena, outbox })
    }

    #[must_use]
    pub const fn device(&self) -> &Arc<Device> {
        &self.device
    }
}

fn turns(model: &Model, positions: usize) -> Vec<[f32; 2]> {
    let magnitude = f64::from(model.rope.magnitude);
    let turn = |position: usize, frequency: &f32| {
        let (sin, cos) = (position as f64 * f64::from(*frequency)).sin_cos();
        [(cos * magnitude) as f32, (sin * magnitude) as f32]
    };
    let frequencies = &model.rope.inverse_frequencies;
    (0..positions).flat_map(|position| frequencies.iter().map(move |f| turn(position, f))).collect()
}

/// The trait's error says what failed; whose fault it was is in its text.
fn failed(error: &CudaError) -> BackendError {
    BackendError(error.to_string())
}

impl Backend for CudaBackend {
    fn layout(&self) -> &ModelLayout {
        &self.layout
    }

    fn embed(&mut self, rows: &[Row], tokens: &[u32]) -> Result<(), BackendError> {
        self.check_tokens(tokens)?;
        self.waited(|backend| backend.embed_rows(rows, tokens))
    }

    fn attention(&mut self, sub_layer: SubLayerId, rows: &[AttentionRow<'_>]) -> Result<(), BackendError> {
        self.check_positions(rows.iter().map(|row| row.position))?;
        self.waited(|backend| backend.attention_rows(sub_layer, rows))
    }

    fn feed_forward(&mut self, sub_layer: SubLayerId, rows: &[Row]) -> Result<(), BackendError> {
        self.waited(|backend| backend.feed_forward_rows(sub_layer, rows))
    }

    fn gate(
        &mut self,
        sub_layer: SubLayerId,
        rows: &[Row],
        experts: &mut Vec<ExpertId>,
    ) -> Result<(), BackendError> {
        self.gate_rows(sub_layer, rows, experts).map_err(|error| failed(&error))
    }

    fn experts(&mut self, sub_layer: SubLayerId, parts: &[PartWork]) -> Result<(), BackendError> {
        self.waited(|backend| backend.expert_parts(sub_layer, parts))
    }

    fn join(&mut self, sub_layer: SubLayerId, rows: &[Row]) -> Result<(), BackendError> {
        self.waited(|backend| backend.join_rows(sub_layer, rows))
    }

    fn logits(&mut self, rows: &[Row], logits: &mut Vec<f32>) -> Result<(), BackendError> {
        self.logits_rows(rows, logits).map_err(|error| failed(&error))
    }

    fn greedy(&mut self, rows: &[Row], tokens: &mut Vec<Option<u32>>) -> Result<bool, BackendError> {
        self.greedy_rows(rows, tokens).map_err(|error| failed(&error))?;
        Ok(true)
    }

    fn step(&mut self, rows: &[StepRow<'_>], heads: &mut Heads) -> Result<bool, BackendError> {
        self.check_positions(rows.iter().map(|row| row.position))?;
        let tokens: Vec<u32> = rows.iter().map(|row| row.token).collect();
        self.check_tokens(&tokens)?;
        self.run_step(rows, heads).map_err(|error| failed(&error))?;
        Ok(true)
    }
}

impl CudaBackend {
    /// A call of one sub-layer ends when the device is done with it, so that whoever times it times that.
    fn waited(&mut self, call: impl FnOnce(&mut Self) -> Result<(), CudaError>) -> Result<(), BackendError> {
        call(self).and_then(|()| self.device.synchronize()).map_err(|error| failed(&error))
    }

    /// Kernels do not check what they index by.
    fn check_tokens(&self, tokens: &[u32]) -> Result<(), BackendError> {
        let vocabulary = self.layout.vocabulary;
        match tokens.iter().find(|token| **token as usize >= vocabulary) {
            Some(token) => Err(BackendError(format!("token {token} in a vocabulary of {vocabulary}"))),
            None => Ok(()),
        }
    }

    fn check_positions(&self, mut positions: impl Iterator<Item = u32>) -> Result<(), BackendError> {
        let context = self.layout.context_length;
        match positions.find(|position| *position as usize >= context) {
            Some(position) => Err(BackendError(format!("position {position} in a context of {context}"))),
            None => Ok(()),
        }
    }
}
