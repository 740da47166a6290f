use reprise_kernels::{attention::KvCache, matrix::Matrix};

use super::{CpuModel, CpuOptions, arena::Arena, scratch::Scratch};
use crate::{
    graph::{Graph, SubLayerRole},
    loader::Plan,
};

/// Bytes of main memory that a model takes, by what they are for. Weights are written at load; the rest when it is first used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemoryEstimate {
    /// Packed matrices, biases, norms, and the table of rotary embedding.
    pub weights: usize,
    /// Keys and values of all blocks.
    pub kv: usize,
    /// Hidden states and experts' results of the tokens of a tick.
    pub arena: usize,
    /// Buffers of one call.
    pub scratch: usize,
}

impl MemoryEstimate {
    /// From a checkpoint's header alone.
    #[must_use]
    pub fn of(plan: &Plan, options: &CpuOptions) -> Self {
        let sizes = &plan.sizes;
        let (mut matrices, mut vectors) = (0, 0);
        plan.visit(
            |matrix| {
                matrices += Matrix::packed_bytes(matrix.format, matrix.outputs, matrix.inputs)
                    + matrix.bias.as_ref().map_or(0, |bias| 4 * bias.len);
            },
            |vector| vectors += 4 * vector.len,
        );
        Self {
            weights: matrices + vectors + rotary(plan, options.context_length(plan)),
            kv: KvCache::bytes(
                options.kv_format,
                plan.layout().count(SubLayerRole::Attention),
                options.kv_blocks,
                sizes.kv_heads,
                sizes.head_dim,
            ),
            arena: Arena::predicted_bytes(options.rows, sizes.hidden, plan.max_top_k()),
            scratch: Scratch::predicted_bytes(options.rows, plan),
        }
    }

    #[must_use]
    pub const fn total(&self) -> usize {
        self.weights + self.kv + self.arena + self.scratch
    }
}

/// Cosine and sine of every pair at every position.
pub(super) fn rotary<M, V>(graph: &Graph<M, V>, positions: usize) -> usize {
    2 * 4 * graph.rope.inverse_frequencies.len() * positions
}

pub(super) fn weights(model: &CpuModel) -> usize {
    let (mut matrices, mut vectors) = (0, 0);
    model.visit(|matrix| matrices += matrix.bytes(), |vector| vectors += 4 * vector.capacity());
    matrices + vectors
}
