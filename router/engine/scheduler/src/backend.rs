use thiserror::Error;

/// A place in the backend's arena of hidden states: one token's state of `hidden` numbers, overwritten in place by each
/// sub-layer that it passes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Row(pub u32);

/// A physical block of KV memory, for [`ModelLayout::kv_block_tokens`] tokens of all layers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BlockId(pub u32);

/// Index into [`ModelLayout::sub_layers`].
pub type SubLayerId = usize;

/// Index of an expert within its sub-layer.
pub type ExpertId = u16;

/// What a sub-layer does (layout letters `a`, `f`, `g`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SubLayerKind {
    Attention,
    DenseFeedForward,
    /// Gated mixture of experts: each token goes to `top_k` of `experts`; none is dropped.
    Experts {
        experts: u16,
        top_k: u16,
    },
}

/// What the scheduler must know of a model and of the memory that the backend holds for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelLayout {
    pub sub_layers: Vec<SubLayerKind>,
    pub vocabulary: usize,
    /// Rows of the arena.
    pub rows: usize,
    pub kv_blocks: usize,
    pub kv_block_tokens: usize,
    /// Prompt and completion together, in tokens.
    pub context_length: usize,
}

/// A token that enters an attention sub-layer.
#[derive(Debug, Clone, Copy)]
pub struct AttentionRow<'a> {
    pub row: Row,
    /// 0-based; the token sees positions 0 to `position`, its own included.
    pub position: u32,
    /// Its sequence's blocks in order; `blocks[position / kv_block_tokens]` exists.
    pub blocks: &'a [BlockId],
}

/// A token's visit to one expert: the `slot`-th of its `top_k` parts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PartWork {
    pub row: Row,
    pub slot: u16,
    pub expert: ExpertId,
}

/// What is wanted of a row behind the last sub-layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Head {
    /// Only its KV.
    #[default]
    Nothing,
    /// The token with the largest logit.
    Greedy,
    /// All logits.
    Logits,
}

/// A token that passes the whole model in one call.
#[derive(Debug, Clone, Copy)]
pub struct StepRow<'a> {
    pub token: u32,
    /// 0-based; the token sees positions 0 to `position`, its own included.
    pub position: u32,
    /// Its sequence's blocks in order; `blocks[position / kv_block_tokens]` exists.
    pub blocks: &'a [BlockId],
    pub head: Head,
}

/// What a step leaves, in order of its rows.
#[derive(Debug, Default)]
pub struct Heads {
    /// Of rows with [`Head::Greedy`], of equal ones the lowest; none: no logit is a number above minus infinity.
    pub greedy: Vec<Option<u32>>,
    /// Of rows with [`Head::Logits`], `vocabulary` each.
    pub logits: Vec<f32>,
}

/// A failure of the device or of the model, never of a request.
#[derive(Debug, Error)]
#[error("{0}")]
pub struct BackendError(pub String);

/// Where a model is computed. One sub-layer for some rows is the unit of work.
///
/// Contract: what is computed for a row depends on that row's own token, position and KV only, bit for bit: never on which
/// other rows share the call, on how a prompt was cut into chunks, or on the number of threads. So results do not depend
/// on timing, and a preempted sequence can be recomputed.
///
/// Within one call rows are distinct; an attention call may hold several rows of one sequence, in ascending order of position,
/// and all of them are appended to the KV before any of them attends.
pub trait Backend {
    fn layout(&self) -> &ModelLayout;

    /// Sets `rows[i]` to the embedding of `tokens[i]`. Before the first of these a device may refuse sub-layers.
    ///
    /// # Errors
    /// The device failed. All other calls alike.
    fn embed(&mut self, rows: &[Row], tokens: &[u32]) -> Result<(), BackendError>;

    /// Norm, projections, rotary embedding, append to KV, attention, output projection, residual.
    fn attention(&mut self, sub_layer: SubLayerId, rows: &[AttentionRow<'_>]) -> Result<(), BackendError>;

    /// Norm, dense feed-forward, residual.
    fn feed_forward(&mut self, sub_layer: SubLayerId, rows: &[Row]) -> Result<(), BackendError>;

    /// Norm and gate. Writes the chosen experts of `rows[i]` to `experts[i * top_k ..][..top_k]`, largest weight first;
    /// their weights stay with the row.
    fn gate(
        &mut self,
        sub_layer: SubLayerId,
        rows: &[Row],
        experts: &mut Vec<ExpertId>,
    ) -> Result<(), BackendError>;

    /// Computes parts and keeps each with its row. `parts` is sorted by expert.
    fn experts(&mut self, sub_layer: SubLayerId, parts: &[PartWork]) -> Result<(), BackendError>;

    /// Weighted sum of the parts, slot 0 first, and of a shared expert where the model has one; residual.
    fn join(&mut self, sub_layer: SubLayerId, rows: &[Row]) -> Result<(), BackendError>;

    /// Final norm and output head: `logits` becomes `[rows.len() * vocabulary]`, row by row.
    fn logits(&mut self, rows: &[Row], logits: &mut Vec<f32>) -> Result<(), BackendError>;

    /// Instead of [`logits`](Self::logits), where only the largest is wanted: adds its token for each row, of equal ones the lowest, none
    /// where no logit is a number above minus infinity. False, as by default: the backend leaves that to who reads the logits.
    fn greedy(&mut self, rows: &[Row], tokens: &mut Vec<Option<u32>>) -> Result<bool, BackendError> {
        let _ = (rows, tokens);
        Ok(false)
    }

    /// The whole model for some rows in one call, where the backend is faster so than sub-layer by sub-layer: experts need not be
    /// known to the host, and a greedy choice is all that comes back of a row's logits. False, as by default: it is not, and nothing
    /// was computed. Rows of one sequence stand side by side in ascending order of position; the arena is left alone.
    fn step(&mut self, rows: &[StepRow<'_>], heads: &mut Heads) -> Result<bool, BackendError> {
        let _ = (rows, heads);
        Ok(false)
    }
}

impl<B: Backend + ?Sized> Backend for Box<B> {
    fn layout(&self) -> &ModelLayout {
        (**self).layout()
    }

    fn embed(&mut self, rows: &[Row], tokens: &[u32]) -> Result<(), BackendError> {
        (**self).embed(rows, tokens)
    }

    fn attention(&mut self, sub_layer: SubLayerId, rows: &[AttentionRow<'_>]) -> Result<(), BackendError> {
        (**self).attention(sub_layer, rows)
    }

    fn feed_forward(&mut self, sub_layer: SubLayerId, rows: &[Row]) -> Result<(), BackendError> {
        (**self).feed_forward(sub_layer, rows)
    }

    fn gate(
        &mut self,
        sub_layer: SubLayerId,
        rows: &[Row],
        experts: &mut Vec<ExpertId>,
    ) -> Result<(), BackendError> {
        (**self).gate(sub_layer, rows, experts)
    }

    fn experts(&mut self, sub_layer: SubLayerId, parts: &[PartWork]) -> Result<(), BackendError> {
        (**self).experts(sub_layer, parts)
    }

    fn join(&mut self, sub_layer: SubLayerId, rows: &[Row]) -> Result<(), BackendError> {
        (**self).join(sub_layer, rows)
    }

    fn logits(&mut self, rows: &[Row], logits: &mut Vec<f32>) -> Result<(), BackendError> {
        (**self).logits(rows, logits)
    }

    fn greedy(&mut self, rows: &[Row], tokens: &mut Vec<Option<u32>>) -> Result<bool, BackendError> {
        (**self).greedy(rows, tokens)
    }

    fn step(&mut self, rows: &[StepRow<'_>], heads: &mut Heads) -> Result<bool, BackendError> {
        (**self).step(rows, heads)
    }
}
