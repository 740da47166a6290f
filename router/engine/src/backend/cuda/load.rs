use std::sync::Arc;

use reprise_cuda::{
    Buffer, Device,
    ops::{Matrix, fill_random},
    weights::{Form, Packed},
};

use super::model::{AttentionLayer, ExpertsLayer, FeedForwardLayer, Layer, Mlp, Model, Weight};
use crate::{
    EngineError,
    backend::Progress,
    graph::{self, SubLayer},
    loader::{Checkpoint, MatrixPlan, VectorPlan, read_matrix, read_vector},
    source::TensorSource,
};

/// Reads one weight after the other; one is on the host at a time.
pub(super) fn load(
    device: &Arc<Device>,
    checkpoint: &mut Checkpoint,
    progress: &mut dyn FnMut(Progress),
    stop: &dyn Fn() -> bool,
) -> Result<Model, EngineError> {
    let (plan, source) = checkpoint.parts();
    let (mut matrices, mut vectors) = (0, 0);
    plan.visit(
        |matrix| matrices += matrix.bytes() + matrix.bias.as_ref().map_or(0, VectorPlan::bytes),
        |vector| vectors += vector.bytes(),
    );
    let at = Progress { done: 0, all: matrices + vectors };
    let mut loading = Loading { device, source, buffer: Vec::new(), progress, stop, at };
    let embedding = loading.stacked(&[&plan.embedding], 1)?;
    let layers = plan.sub_layers.iter().map(|layer| loading.layer(layer)).collect::<Result<_, _>>()?;
    let final_norm = loading.vector(&plan.final_norm)?;
    let output = plan.output.as_ref().map(|output| loading.weight(output)).transpose()?;
    Ok(Model { sizes: plan.sizes.clone(), rope: plan.rope.clone(), embedding, layers, final_norm, output })
}

struct Loading<'a> {
    device: &'a Arc<Device>,
    source: &'a mut dyn TensorSource,
    buffer: Vec<u8>,
    progress: &'a mut dyn FnMut(Progress),
    stop: &'a dyn Fn() -> bool,
    at: Progress,
}

impl Loading<'_> {
    fn layer(&mut self, layer: &SubLayer<MatrixPlan, VectorPlan>) -> Result<Layer, EngineError> {
        Ok(match layer {
            SubLayer::Attention(layer) => Layer::Attention(self.attention(layer)?),
            SubLayer::FeedForward(layer) => Layer::FeedForward(FeedForwardLayer {
                norm: self.vector(&layer.norm)?,
                mlp: self.mlp(&layer.mlp)?,
            }),
            SubLayer::Experts(layer) => Layer::Experts(Box::new(self.experts(layer)?)),
        })
    }

    fn attention(
        &mut self,
        layer: &graph::Attention<MatrixPlan, VectorPlan>,
    ) -> Result<AttentionLayer, EngineError> {
        let norm = self.vector(&layer.norm)?;
        let mut projections: Vec<Weight> = Vec::new();
        let parts = [&layer.q, &layer.k, &layer.v];
        for group in parts.chunk_by(|a, b| form_of(a) == form_of(b)) {
            projections.push(self.together(group)?);
        }
        let qk_norm = match &layer.qk_norm {
            Some(norm) => Some((self.vector(&norm.q)?, self.vector(&norm.k)?)),
            None => None,
        };
        let output = self.weight(&layer.output)?;
        Ok(AttentionLayer { norm, projections, qk_norm, output })
    }

    fn mlp(&mut self, mlp: &graph::Mlp<MatrixPlan>) -> Result<Mlp, EngineError> {
        Ok(Mlp { gate: self.weight(&mlp.gate)?, up: self.weight(&mlp.up)?, down: self.weight(&mlp.down)? })
    }

    fn experts(
        &mut self,
        layer: &graph::Experts<MatrixPlan, VectorPlan>,
    ) -> Result<ExpertsLayer, EngineError> {
        let norm = self.vector(&layer.norm)?;
        let router = self.weight(&layer.gate)?;
        let all =
            |of: fn(&graph::Mlp<MatrixPlan>) -> &MatrixPlan| layer.experts.iter().map(of).collect::<Vec<_>>();
        let (gates, ups, downs) = (all(|mlp| &mlp.gate), all(|mlp| &mlp.up), all(|mlp| &mlp.down));
        if let Some(biased) = gates.iter().chain(&ups).chain(&downs).find(|plan| plan.bias.is_some()) {
            return Err(EngineError::Unsupported {
                what: "bias of an expert on a GPU",
                value: biased.tensor.clone(),
                supported: "none",
            });
        }
        // Gate and up are computed together: in one form.
        let form = common_form(gates.iter().chain(&ups));
        let gate = self.stacked_as(&gates, gates.len(), form)?;
        let up = self.stacked_as(&ups, ups.len(), form)?;
        let down = self.stacked(&downs, downs.len())?;
        let shared = match &layer.shared {
            Some(shared) => Some((self.weight(&shared.gate)?, self.mlp(&shared.mlp)?)),
            None => None,
        };
        let (experts, top_k, renormalise) = (layer.experts.len(), layer.top_k, layer.renormalise);
        Ok(ExpertsLayer { norm, router, gate, up, down, experts, top_k, renormalise, shared })
    }

    fn weight(&mut self, plan: &MatrixPlan) -> Result<Weight, EngineError> {
        self.together(&[plan])
    }

    /// Matrices of one form, one behind the other, with their biases (0 where one has none and another has).
    fn together(&mut self, plans: &[&MatrixPlan]) -> Result<Weight, EngineError> {
        let matrix = self.stacked(plans, 1)?;
        let mut biases = Vec::new();
        for plan in plans {
            match &plan.bias {
                Some(bias) => biases.extend(self.host_vector(bias)?),
                None => biases.resize(biases.len() + plan.outputs, 0.0),
            }
        }
        let biased = plans.iter().any(|plan| plan.bias.is_some());
        let bias = biased.then(|| Buffer::from_slice(self.device, &biases)).transpose()?;
        Ok(Weight { matrix, bias })
    }

    fn stacked(&mut self, plans: &[&MatrixPlan], groups: usize) -> Result<Matrix, EngineError> {
        self.stacked_as(plans, groups, common_form(plans.iter()))
    }

    fn stacked_as(
        &mut self,
        plans: &[&MatrixPlan],
        groups: usize,
        form: Form,
    ) -> Result<Matrix, EngineError> {
        let inputs = plans.first().map_or(0, |plan| plan.inputs);
        let outputs: usize = plans.iter().map(|plan| plan.outputs).sum();
        let matrix = Matrix::new(self.device, form, groups, outputs / groups.max(1), inputs)?;
        let mut row = 0;
        for plan in plans {
            if (self.stop)() {
                return Err(EngineError::Stopped);
            }
            if let Some((seed, range)) = self.source.random(&plan.tensor) {
                let size = form.code_bytes(plan.outputs, inputs);
                let begin = form.code_bytes(row, inputs);
                let codes = matrix.codes().range(begin..begin + size)?;
                fill_random(self.device, codes.cast()?, seed, range)?;
            } else {
                read_matrix(self.source, plan, &mut self.buffer)?;
                let mut packed = Packed::new(plan.format, plan.outputs, plan.inputs, &self.buffer)?;
                if packed.form != form {
                    packed = packed.widened();
                }
                matrix.write(self.device, row, &packed)?;
            }
            row += plan.outputs;
            self.read(plan.bytes());
        }
        Ok(matrix)
    }

    fn vector(&mut self, plan: &VectorPlan) -> Result<Buffer<f32>, EngineError> {
        let numbers = self.host_vector(plan)?;
        Ok(Buffer::from_slice(self.device, &numbers)?)
    }

    fn host_vector(&mut self, plan: &VectorPlan) -> Result<Vec<f32>, EngineError> {
        let numbers = read_vector(self.source, plan, &mut self.buffer)?;
        self.read(plan.bytes());
        Ok(numbers)
    }

    fn read(&mut self, bytes: usize) {
        self.at.done += bytes;
        (self.progress)(self.at);
    }
}

fn form_of(plan: &MatrixPlan) -> Form {
    Form::of(plan.format)
}

/// Of all; bf16 where they differ.
pub(super) fn common_form<'a>(mut plans: impl Iterator<Item = &'a &'a MatrixPlan>) -> Form {
    let first = plans.next().map_or(Form::Bf16, |plan| form_of(plan));
    if plans.all(|plan| form_of(plan) == first) { first } else { Form::Bf16 }
}
