use reprise_cuda::{
    Buffer, CudaError, Device, View,
    ops::{Matrix, Outcome, Product, multiply, silu_mul},
};

use super::work::Work;
use crate::graph::{Rope, Sizes, SubLayerRole};

/// A model in the GPU's memory.
#[derive(Debug)]
pub(super) struct Model {
    pub(super) sizes: Sizes,
    pub(super) rope: Rope,
    pub(super) embedding: Matrix,
    pub(super) layers: Vec<Layer>,
    pub(super) final_norm: Buffer<f32>,
    /// None: the embedding serves.
    pub(super) output: Option<Weight>,
}

#[derive(Debug)]
pub(super) enum Layer {
    Attention(AttentionLayer),
    FeedForward(FeedForwardLayer),
    Experts(Box<ExpertsLayer>),
}

#[derive(Debug)]
pub(super) struct Weight {
    pub(super) matrix: Matrix,
    pub(super) bias: Option<Buffer<f32>>,
}

#[derive(Debug)]
pub(super) struct AttentionLayer {
    pub(super) norm: Buffer<f32>,
    /// Of q, k and v: as few matrices as their forms allow, one behind the other.
    pub(super) projections: Vec<Weight>,
    pub(super) qk_norm: Option<(Buffer<f32>, Buffer<f32>)>,
    pub(super) output: Weight,
}

#[derive(Debug)]
pub(super) struct FeedForwardLayer {
    pub(super) norm: Buffer<f32>,
    pub(super) mlp: Mlp,
}

#[derive(Debug)]
pub(super) struct Mlp {
    pub(super) gate: Weight,
    pub(super) up: Weight,
    pub(super) down: Weight,
}

#[derive(Debug)]
pub(super) struct ExpertsLayer {
    pub(super) norm: Buffer<f32>,
    pub(super) router: Weight,
    /// One group for each expert.
    pub(super) gate: Matrix,
    pub(super) up: Matrix,
    pub(super) down: Matrix,
    pub(super) experts: usize,
    pub(super) top_k: usize,
    pub(super) renormalise: bool,
    /// The gate of a shared expert, and the expert.
    pub(super) shared: Option<(Weight, Mlp)>,
}

impl Layer {
    pub(super) const fn norm(&self) -> &Buffer<f32> {
        match self {
            Self::Attention(layer) => &layer.norm,
            Self::FeedForward(layer) => &layer.norm,
            Self::Experts(layer) => &layer.norm,
        }
    }

    pub(super) const fn role(&self) -> SubLayerRole {
        match self {
            Self::Attention(_) => SubLayerRole::Attention,
            Self::FeedForward(_) => SubLayerRole::FeedForward,
            Self::Experts(_) => SubLayerRole::Experts,
        }
    }
}

impl Weight {
    /// `out[t][at ..] = weights . x[t] + bias`, `pitch` numbers from one token to the next.
    pub(super) fn multiply(
        &self,
        device: &Device,
        x: View<'_, half::bf16>,
        out: Outcome<'_>,
        pitch: usize,
        tokens: usize,
    ) -> Result<(), CudaError> {
        let bias = self.bias.as_ref().map(Buffer::view);
        let product = Product { weights: &self.matrix, x, rows: None, tiles: None, bias, out, pitch, tokens };
        multiply(device, &product)
    }
}

impl Mlp {
    pub(super) const fn width(&self) -> usize {
        self.gate.matrix.rows()
    }

    /// `down(silu(gate(x)) * up(x))`; leaves the middle in `work`.
    pub(super) fn run(
        &self,
        device: &Device,
        work: &Work,
        x: View<'_, half::bf16>,
        out: Outcome<'_>,
        tokens: usize,
    ) -> Result<(), CudaError> {
        let width = self.width();
        let middle = work.middle.range(0..tokens * width)?;
        let alike = self.gate.matrix.form() == self.up.matrix.form() && width.is_multiple_of(8);
        if alike && self.gate.bias.is_none() && self.up.bias.is_none() {
            let gated = Outcome::Gated { second: &self.up.matrix, out: middle };
            self.gate.multiply(device, x, gated, width, tokens)?;
        } else {
            let (gate, up) = work.apart(tokens * width)?;
            self.gate.multiply(device, x, Outcome::Replace(gate), width, tokens)?;
            self.up.multiply(device, x, Outcome::Replace(up), width, tokens)?;
            silu_mul(device, gate, up, middle)?;
        }
        self.down.multiply(device, middle, out, self.down.matrix.rows(), tokens)
    }
}

impl Model {
    pub(super) fn head(&self) -> (&Matrix, Option<View<'_, f32>>) {
        match &self.output {
            Some(output) => (&output.matrix, output.bias.as_ref().map(Buffer::view)),
            None => (&self.embedding, None),
        }
    }

    pub(super) fn experts(&self) -> impl Iterator<Item = &ExpertsLayer> {
        self.layers.iter().filter_map(|layer| match layer {
            Layer::Experts(layer) => Some(&**layer),
            Layer::Attention(_) | Layer::FeedForward(_) => None,
        })
    }
}
