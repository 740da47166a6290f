//! A dense pre-norm decoder with rotary embedding and gated SiLU: Llama (arXiv 2302.13971) and Qwen2
//! (arXiv 2407.10671), which differ here in the pairing of rotary dimensions and in biases.

use std::sync::Arc;

use candle_core::{Device, Module, Tensor, quantized::QTensor};
use candle_nn::{kv_cache::KvCache, ops::rms_norm};

use super::{
    Model, Sequence, Shape,
    attention::{Attention, RotaryTable},
    linear::Linear,
};
use crate::{EngineError, gguf::Gguf};

#[derive(Debug)]
struct Layer {
    attention_norm: Tensor,
    attention: Attention,
    ffn_norm: Tensor,
    gate: Linear,
    up: Linear,
    down: Linear,
}

/// The weights of one model.
#[derive(Debug)]
pub(crate) struct Decoder {
    shape: Shape,
    device: Device,
    /// Kept quantised: a row is widened when it is looked up.
    embedding: Arc<QTensor>,
    layers: Vec<Layer>,
    norm: Tensor,
    output: Linear,
    rotary: RotaryTable,
    context_length: usize,
}

impl Decoder {
    pub(crate) fn load(
        gguf: &mut Gguf,
        shape: Shape,
        context_length: usize,
        device: &Device,
        stop: &dyn Fn() -> bool,
    ) -> Result<Self, EngineError> {
        let embedding = gguf.candle_tensor("token_embd.weight", device)?;
        if embedding.shape().dims2()?.1 != shape.hidden {
            return Err(EngineError::Inconsistent("token_embd.weight does not have the hidden size".into()));
        }
        // Tied weights where the file has no output of its own.
        let output = if gguf.has_tensor("output.weight") { "output.weight" } else { "token_embd.weight" };
        let output = Linear::new(gguf.candle_tensor(output, device)?, None, device)?;
        let mut layers = Vec::with_capacity(shape.layers);
        for layer in 0..shape.layers {
            if stop() {
                return Err(EngineError::Stopped);
            }
            layers.push(Layer::load(gguf, layer, device)?);
        }
        Ok(Self {
            norm: gguf.candle_tensor("output_norm.weight", device)?.dequantize(device)?,
            rotary: RotaryTable::new(&shape, context_length, device)?,
            shape,
            device: device.clone(),
            embedding: Arc::new(embedding),
            layers,
            output,
            context_length,
        })
    }
}

impl Layer {
    fn load(gguf: &mut Gguf, layer: usize, device: &Device) -> Result<Self, EngineError> {
        let prefix = format!("blk.{layer}");
        Ok(Self {
            attention_norm: gguf
                .candle_tensor(&format!("{prefix}.attn_norm.weight"), device)?
                .dequantize(device)?,
            attention: Attention::load(gguf, layer, device)?,
            ffn_norm: gguf.candle_tensor(&format!("{prefix}.ffn_norm.weight"), device)?.dequantize(device)?,
            gate: Linear::load(gguf, &format!("{prefix}.ffn_gate"), device)?,
            up: Linear::load(gguf, &format!("{prefix}.ffn_up"), device)?,
            down: Linear::load(gguf, &format!("{prefix}.ffn_down"), device)?,
        })
    }
}

impl Model for Decoder {
    fn new_sequence(&self) -> Box<dyn Sequence + '_> {
        let caches = self.layers.iter().map(|_| Attention::new_cache()).collect();
        Box::new(DecoderSequence { model: self, caches, len: 0 })
    }
}

struct DecoderSequence<'a> {
    model: &'a Decoder,
    caches: Vec<KvCache>,
    len: usize,
}

impl Sequence for DecoderSequence<'_> {
    fn forward(&mut self, tokens: &[u32]) -> Result<Vec<f32>, EngineError> {
        let model = self.model;
        let (count, eps) = (tokens.len(), model.shape.norm_eps);
        if count == 0 || self.len + count > model.context_length {
            return Err(EngineError::Inconsistent(format!(
                "{count} tokens after {} in a context of {}",
                self.len, model.context_length
            )));
        }
        let pass = model.rotary.pass(self.len, count)?;
        let mut x = model.embedding.embedding(&Tensor::new(tokens, &model.device)?)?;
        for (layer, cache) in model.layers.iter().zip(&mut self.caches) {
            let normed = rms_norm(&x, &layer.attention_norm, eps)?;
            x = (x + layer.attention.forward(&normed, &model.shape, &model.rotary, &pass, cache)?)?;
            let normed = rms_norm(&x, &layer.ffn_norm, eps)?;
            let gated = (candle_nn::Activation::Silu.forward(&layer.gate.forward(&normed)?)?
                * layer.up.forward(&normed)?)?;
            x = (x + layer.down.forward(&gated)?)?;
        }
        self.len += count;
        let last = rms_norm(&x.narrow(0, count - 1, 1)?.contiguous()?, &model.norm, eps)?;
        Ok(model.output.forward(&last)?.flatten_all()?.to_vec1()?)
    }

    fn len(&self) -> usize {
        self.len
    }
}
