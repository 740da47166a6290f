use candle_core::{D, Device, Tensor};
use candle_nn::{kv_cache::KvCache, ops::softmax_last_dim, rotary_emb};

use super::{
    linear::Linear,
    shape::{Rotary, Shape},
};
use crate::{EngineError, gguf::Gguf};

/// Tokens by which a sequence's KV grows.
const KV_GROWTH: usize = 256;

/// Grouped-query attention of one layer. Shapes: T new tokens, P earlier ones, H heads in G groups of H/G,
/// head dimension d.
#[derive(Debug)]
pub(crate) struct Attention {
    q: Linear,
    k: Linear,
    v: Linear,
    out: Linear,
}

/// cos and sin of every position, [positions, d / 2].
#[derive(Debug)]
pub(crate) struct RotaryTable {
    cos: Tensor,
    sin: Tensor,
    pairing: Rotary,
}

/// What all layers share in one forward pass.
#[derive(Debug)]
pub(crate) struct Pass {
    cos: Tensor,
    sin: Tensor,
    /// 0 or -inf, [T, P + T]; none where each token may see all.
    mask: Option<Tensor>,
}

impl RotaryTable {
    pub(crate) fn new(shape: &Shape, positions: usize, device: &Device) -> Result<Self, EngineError> {
        let frequencies: Vec<f32> = (0..shape.head_dim)
            .step_by(2)
            .map(|i| shape.rope_base.powf(-(i as f32) / shape.head_dim as f32))
            .collect();
        let pairs = frequencies.len();
        let angles: Vec<f32> =
            (0..positions).flat_map(|t| frequencies.iter().map(move |f| t as f32 * f)).collect();
        let angles = Tensor::from_vec(angles, (positions, pairs), device)?;
        Ok(Self { cos: angles.cos()?, sin: angles.sin()?, pairing: shape.rotary })
    }

    /// Prepares `count` tokens that follow `before` others.
    pub(crate) fn pass(&self, before: usize, count: usize) -> Result<Pass, EngineError> {
        let mask = if count == 1 {
            None
        } else {
            let width = before + count;
            let mask: Vec<f32> = (0..count)
                .flat_map(|i| (0..width).map(move |j| if j > before + i { f32::NEG_INFINITY } else { 0.0 }))
                .collect();
            Some(Tensor::from_vec(mask, (count, width), self.cos.device())?)
        };
        Ok(Pass { cos: self.cos.narrow(0, before, count)?, sin: self.sin.narrow(0, before, count)?, mask })
    }

    /// `x`: [heads, T, d], contiguous.
    fn rotate(&self, x: &Tensor, pass: &Pass) -> Result<Tensor, EngineError> {
        let x = x.unsqueeze(0)?;
        let rotated = match self.pairing {
            Rotary::Interleaved => rotary_emb::rope_i(&x, &pass.cos, &pass.sin)?,
            Rotary::Halves => rotary_emb::rope(&x, &pass.cos, &pass.sin)?,
        };
        Ok(rotated.squeeze(0)?)
    }
}

impl Attention {
    pub(crate) fn load(gguf: &mut Gguf, layer: usize, device: &Device) -> Result<Self, EngineError> {
        let mut linear = |part: &str| Linear::load(gguf, &format!("blk.{layer}.attn_{part}"), device);
        Ok(Self { q: linear("q")?, k: linear("k")?, v: linear("v")?, out: linear("output")? })
    }

    pub(crate) fn new_cache() -> KvCache {
        KvCache::new(1, KV_GROWTH)
    }

    /// `x`: [T, hidden] -> [T, hidden]; appends T entries to `cache`.
    pub(crate) fn forward(
        &self,
        x: &Tensor,
        shape: &Shape,
        rotary: &RotaryTable,
        pass: &Pass,
        cache: &mut KvCache,
    ) -> Result<Tensor, EngineError> {
        let count = x.dim(0)?;
        let (heads, groups, width) = (shape.heads, shape.kv_heads, shape.head_dim);
        let by_head = |flat: Tensor, heads: usize| -> Result<Tensor, EngineError> {
            Ok(flat.reshape((count, heads, width))?.transpose(0, 1)?.contiguous()?)
        };
        let q = rotary.rotate(&by_head(self.q.forward(x)?, heads)?, pass)?;
        let k = rotary.rotate(&by_head(self.k.forward(x)?, groups)?, pass)?;
        let v = by_head(self.v.forward(x)?, groups)?;
        let (k, v) = cache.append(&k, &v)?;

        // A group's query heads lie side by side: one product serves them all, and K and V are not repeated.
        let q = (q * (width as f64).powf(-0.5))?.reshape((groups, heads / groups * count, width))?;
        let scores = q.matmul(&k.transpose(1, 2)?)?;
        let seen = scores.dim(D::Minus1)?;
        let scores = match &pass.mask {
            Some(mask) => scores.reshape((heads, count, seen))?.broadcast_add(mask)?,
            None => scores,
        };
        let weights = softmax_last_dim(&scores)?.reshape((groups, heads / groups * count, seen))?;
        let mixed = weights.matmul(&v)?.reshape((heads, count, width))?;
        let mixed = mixed.transpose(0, 1)?.reshape((count, heads * width))?;
        self.out.forward(&mixed)
    }
}
