//! A model on the CPU: one call computes a sub-layer for some rows with the kernels of `reprise-kernels`, all threads of one team on
//! every product.
//!
//! Hidden states live in an arena, one row for each token in flight. Rows that lie side by side in order are computed in place; others are
//! gathered first and scattered after. Nothing is allocated in a call once buffers have their sizes: they have it from the start.

mod arena;
mod attention;
mod exchange;
mod experts;
mod feed_forward;
mod load;
mod memory;
mod products;
mod scratch;
#[cfg(test)]
mod tests;

use std::{num::NonZeroUsize, sync::Arc};

use reprise_kernels::{
    attention::{BLOCK_TOKENS, KvCache, KvFormat},
    matrix::Matrix,
    norm::rms_norm,
    pool::Pool,
    rope::Rotary,
};
use reprise_scheduler::{
    AttentionRow, Backend, BackendError, ExpertId, ModelLayout, PartWork, Row, SubLayerId, SubLayerKind,
};

use crate::{
    EngineError,
    bank::{Bank, BankError},
    graph::{Graph, SubLayer},
    loader::Checkpoint,
};
use arena::Arena;
use products::fill_and_multiply;
use scratch::Scratch;

pub use load::Progress;
pub use memory::MemoryEstimate;

/// A model packed for the CPU's kernels.
pub type CpuModel = Graph<Matrix, Vec<f32>>;

/// How much memory a model may use besides its weights, and on how many threads it runs.
#[derive(Debug, Clone)]
pub struct CpuOptions {
    pub threads: NonZeroUsize,
    /// Rows of the arena: tokens computed in one tick, at most.
    pub rows: usize,
    /// Of 32 tokens of one sequence, for all layers.
    pub kv_blocks: usize,
    pub kv_format: KvFormat,
    /// Upper bound on the context in tokens; the model's own bound holds as well.
    pub context_length: Option<usize>,
}

impl CpuOptions {
    fn context_length<M, V>(&self, graph: &Graph<M, V>) -> usize {
        let own = graph.sizes.context_length;
        self.context_length.map_or(own, |most| most.min(own))
    }
}

/// Weights, KV and hidden states of one model in main memory.
#[derive(Debug)]
pub struct CpuBackend {
    layout: ModelLayout,
    /// Shared by the devices of a cluster.
    model: Arc<CpuModel>,
    pool: Pool,
    rotary: Rotary,
    kv: KvCache,
    /// For each sub-layer, which of the KV's layers it is; 0 where it is no attention.
    kv_layers: Vec<usize>,
    arena: Arena,
    scratch: Scratch,
}

impl CpuBackend {
    /// Reads and packs the weights of a checkpoint. `progress` is told of every tensor, `stop` is asked before each.
    ///
    /// # Errors
    /// A file cannot be read, memory or threads are not to be had, or `stop` said so ([`EngineError::Stopped`]).
    pub fn load(
        checkpoint: &mut Checkpoint,
        options: &CpuOptions,
        progress: &mut dyn FnMut(Progress),
        stop: &dyn Fn() -> bool,
    ) -> Result<Self, EngineError> {
        let pool = pool(options)?;
        let model = load::load(checkpoint, &pool, progress, stop)?;
        Self::new(Arc::new(model), pool, options)
    }

    /// Another device with the same weights, which are in memory once, and with threads, KV and hidden states of its own.
    ///
    /// # Errors
    /// Memory or threads are not to be had.
    pub fn sibling(&self, options: &CpuOptions) -> Result<Self, EngineError> {
        Self::new(Arc::clone(&self.model), pool(options)?, options)
    }

    fn new(model: Arc<CpuModel>, pool: Pool, options: &CpuOptions) -> Result<Self, EngineError> {
        if options.rows == 0 {
            return Err(EngineError::Inconsistent("an arena of no rows".into()));
        }
        let sizes = &model.sizes;
        let context_length = options.context_length(&*model);
        let mut kv_layers = Vec::with_capacity(model.sub_layers.len());
        let mut attentions = 0;
        for layer in &model.sub_layers {
            kv_layers.push(attentions);
            attentions += usize::from(matches!(layer, SubLayer::Attention(_)));
        }
        let kv =
            KvCache::new(options.kv_format, attentions, options.kv_blocks, sizes.kv_heads, sizes.head_dim)?;
        let rope = &model.rope;
        let rotary = Rotary::new(&rope.inverse_frequencies, rope.magnitude, context_length, rope.pairing);
        let layout = ModelLayout {
            sub_layers: model.sub_layers.iter().map(kind).collect(),
            vocabulary: sizes.vocabulary,
            rows: options.rows,
            kv_blocks: options.kv_blocks,
            kv_block_tokens: BLOCK_TOKENS,
            context_length,
        };
        let arena = Arena::new(options.rows, sizes.hidden, model.max_top_k());
        let scratch = Scratch::new(options.rows, &model);
        Ok(Self { layout, model, pool, rotary, kv, kv_layers, arena, scratch })
    }

    #[must_use]
    pub fn model(&self) -> &CpuModel {
        &self.model
    }

    /// Puts a bank's experts in place of those that were loaded, and returns how many matrices changed. The model must be the
    /// bank's base as it was loaded.
    ///
    /// # Errors
    /// A matrix of the bank does not fit the model; the backend is of no use then. Or others have the same weights.
    pub fn apply(&mut self, bank: &Bank) -> Result<usize, BankError> {
        bank.apply(Arc::get_mut(&mut self.model).ok_or(BankError::InUse)?)
    }

    /// What was allocated. Equal to the prediction of [`MemoryEstimate::of`] within 2 %.
    #[must_use]
    pub fn memory(&self) -> MemoryEstimate {
        MemoryEstimate {
            weights: memory::weights(&self.model) + memory::rotary(&self.model, self.layout.context_length),
            kv: KvCache::bytes(
                self.kv.format(),
                self.model.layout().count(crate::graph::SubLayerRole::Attention),
                self.kv.blocks(),
                self.model.sizes.kv_heads,
                self.model.sizes.head_dim,
            ),
            arena: self.arena.bytes(),
            scratch: self.scratch.bytes(),
        }
    }

    fn wrong(&self, sub_layer: SubLayerId, call: &str) -> BackendError {
        let found = self.model.sub_layers.get(sub_layer).map(SubLayer::role);
        BackendError(format!("{call} of sub-layer {sub_layer}, which is {found:?}"))
    }
}

fn pool(options: &CpuOptions) -> Result<Pool, EngineError> {
    Pool::new(options.threads).map_err(|error| EngineError::Thread(error.to_string()))
}

fn kind<M, V>(layer: &SubLayer<M, V>) -> SubLayerKind {
    match layer {
        SubLayer::Attention(_) => SubLayerKind::Attention,
        SubLayer::FeedForward(_) => SubLayerKind::DenseFeedForward,
        SubLayer::Experts(experts) => SubLayerKind::Experts {
            // The loader has seen that both fit.
            experts: u16::try_from(experts.experts.len()).unwrap_or(u16::MAX),
            top_k: u16::try_from(experts.top_k).unwrap_or(u16::MAX),
        },
    }
}

impl Backend for CpuBackend {
    fn layout(&self) -> &ModelLayout {
        &self.layout
    }

    fn embed(&mut self, rows: &[Row], tokens: &[u32]) -> Result<(), BackendError> {
        let vocabulary = self.layout.vocabulary;
        if let Some(token) = tokens.iter().find(|token| **token as usize >= vocabulary) {
            return Err(BackendError(format!("token {token} in a vocabulary of {vocabulary}")));
        }
        for (row, token) in rows.iter().zip(tokens) {
            self.model.embedding.row(*token as usize, self.arena.state_mut(*row));
        }
        Ok(())
    }

    fn attention(&mut self, sub_layer: SubLayerId, rows: &[AttentionRow<'_>]) -> Result<(), BackendError> {
        let Self { model, pool, rotary, kv, kv_layers, arena, scratch, .. } = self;
        let Some(SubLayer::Attention(layer)) = model.sub_layers.get(sub_layer) else {
            return Err(self.wrong(sub_layer, "attention"));
        };
        if let Some(row) = rows.iter().find(|row| row.position as usize >= rotary.positions()) {
            return Err(BackendError(format!(
                "position {} in a context of {}",
                row.position,
                rotary.positions()
            )));
        }
        let kv_layer = kv_layers[sub_layer];
        let run = attention::Run { pool, sizes: &model.sizes, rotary, layer, kv_layer };
        arena.with_states(rows.iter().map(|row| row.row), &mut scratch.gathered, |states| {
            run.run(rows, states, kv, &mut scratch.attention, &mut scratch.input, &mut scratch.normed);
        });
        Ok(())
    }

    fn feed_forward(&mut self, sub_layer: SubLayerId, rows: &[Row]) -> Result<(), BackendError> {
        let Self { model, pool, arena, scratch, .. } = self;
        let Some(SubLayer::FeedForward(layer)) = model.sub_layers.get(sub_layer) else {
            return Err(self.wrong(sub_layer, "feed_forward"));
        };
        let eps = model.sizes.norm_eps;
        arena.with_states(rows.iter().copied(), &mut scratch.gathered, |states| {
            let normed = &mut scratch.normed[..states.len()];
            rms_norm(pool, states, &layer.norm, eps, normed);
            let mut buffers = feed_forward::Buffers {
                input: &mut scratch.input,
                middle: &mut scratch.middle,
                up: &mut scratch.up,
            };
            feed_forward::add_mlp(pool, &layer.mlp, normed, &mut buffers, states);
        });
        Ok(())
    }

    fn gate(
        &mut self,
        sub_layer: SubLayerId,
        rows: &[Row],
        experts: &mut Vec<ExpertId>,
    ) -> Result<(), BackendError> {
        let Self { model, pool, arena, scratch, .. } = self;
        let Some(SubLayer::Experts(layer)) = model.sub_layers.get(sub_layer) else {
            return Err(self.wrong(sub_layer, "gate"));
        };
        experts::gate(pool, layer, model.sizes.norm_eps, rows, arena, scratch, experts);
        Ok(())
    }

    fn experts(&mut self, sub_layer: SubLayerId, parts: &[PartWork]) -> Result<(), BackendError> {
        let Self { model, pool, arena, scratch, .. } = self;
        let Some(SubLayer::Experts(layer)) = model.sub_layers.get(sub_layer) else {
            return Err(self.wrong(sub_layer, "experts"));
        };
        experts::compute(pool, layer, parts, arena, scratch);
        Ok(())
    }

    fn join(&mut self, sub_layer: SubLayerId, rows: &[Row]) -> Result<(), BackendError> {
        let Self { model, pool, arena, scratch, .. } = self;
        let Some(SubLayer::Experts(layer)) = model.sub_layers.get(sub_layer) else {
            return Err(self.wrong(sub_layer, "join"));
        };
        experts::join(pool, layer, rows, arena, scratch);
        Ok(())
    }

    fn logits(&mut self, rows: &[Row], logits: &mut Vec<f32>) -> Result<(), BackendError> {
        let Self { model, pool, arena, scratch, .. } = self;
        let Scratch { input, gathered, normed, .. } = scratch;
        arena.with_states(rows.iter().copied(), gathered, |states| {
            let normed = &mut normed[..states.len()];
            rms_norm(pool, states, &model.final_norm, model.sizes.norm_eps, normed);
            logits.resize(rows.len() * model.sizes.vocabulary, 0.0);
            fill_and_multiply(pool, input, normed, &mut [(model.head(), logits)]);
        });
        Ok(())
    }
}
