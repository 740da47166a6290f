//! A decoder on candle's tensors, one sequence at a time: what tests hold the CPU backend to.
//!
//! candle-transformers' quantised models were measured and left: they keep the KV and a growing map of masks in
//! the weights (the qwen2 one cannot be cloned to be rid of them), widen the embedding to f32 (0.9 GB for
//! Qwen2.5-1.5B), stop at 4096 positions, and run Q4_1, which has no SIMD kernel in candle, several times slower than
//! [`linear`] does. A test holds this decoder to their logits.

mod attention;
mod decoder;
mod linear;
mod shape;

use candle_core::Device;

pub(crate) use decoder::Decoder;
pub(crate) use shape::Shape;

use crate::{EngineError, gguf::Gguf};

/// One sequence being computed: its KV lives and dies with it.
pub(crate) trait Sequence: Send {
    /// Appends `tokens` and returns the logits after the last of them, one per vocabulary entry.
    fn forward(&mut self, tokens: &[u32]) -> Result<Vec<f32>, EngineError>;

    /// Tokens appended so far.
    fn len(&self) -> usize;
}

/// Weights that sequences share.
pub(crate) trait Model: Send + Sync {
    fn new_sequence(&self) -> Box<dyn Sequence + '_>;
}

/// Reads the weights. `stop` is asked between layers.
pub(crate) fn load(
    gguf: &mut Gguf,
    context_length: usize,
    device: &Device,
    stop: &dyn Fn() -> bool,
) -> Result<Box<dyn Model>, EngineError> {
    let shape = Shape::read(gguf)?;
    Ok(Box::new(Decoder::load(gguf, shape, context_length, device, stop)?))
}

#[cfg(test)]
mod tests;
