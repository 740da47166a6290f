use reprise_kernels::matrix::{Input, Matrix};

use super::{CpuModel, attention};
use crate::{
    graph::{Graph, Mlp, SubLayer},
    loader::Plan,
};

/// Buffers that live for one call, kept for the next. As large as the largest call needs; the system gives pages of memory when
/// they are first written.
#[derive(Debug)]
pub(super) struct Scratch {
    pub(super) input: Input,
    /// States of rows that do not lie side by side, [rows, hidden].
    pub(super) gathered: Vec<f32>,
    /// [rows, hidden]
    pub(super) normed: Vec<f32>,
    pub(super) attention: attention::Buffers,
    /// [rows, width]
    pub(super) middle: Vec<f32>,
    /// Grows only for models that mix formats within one feed-forward.
    pub(super) up: Vec<f32>,
    /// Logits of the gate, [rows, experts].
    pub(super) gates: Vec<f32>,
    /// [rows, top_k]
    pub(super) weights: Vec<f32>,
    /// Results of one expert or of the shared one, [rows, hidden].
    pub(super) results: Vec<f32>,
}

/// Lengths of the buffers of [`Scratch`].
struct Lengths {
    states: usize,
    middle: usize,
    gates: usize,
    weights: usize,
    results: usize,
}

impl Lengths {
    fn new<M, V>(rows: usize, graph: &Graph<M, V>, outputs: impl Fn(&M) -> usize) -> Self {
        let mut width = 0;
        let mut experts = 0;
        let mut see = |mlp: &Mlp<M>| width = outputs(&mlp.gate).max(width);
        for layer in &graph.sub_layers {
            match layer {
                SubLayer::Attention(_) => {}
                SubLayer::FeedForward(layer) => see(&layer.mlp),
                SubLayer::Experts(layer) => {
                    layer.experts.iter().for_each(&mut see);
                    layer.shared.iter().for_each(|shared| see(&shared.mlp));
                    experts = layer.experts.len().max(experts);
                }
            }
        }
        let states = rows * graph.sizes.hidden;
        Self {
            states,
            middle: rows * width,
            gates: rows * experts,
            weights: rows * graph.max_top_k(),
            results: if experts > 0 { states } else { 0 },
        }
    }
}

impl Scratch {
    pub(super) fn new(rows: usize, model: &CpuModel) -> Self {
        let lengths = Lengths::new(rows, model, Matrix::outputs);
        Self {
            input: Input::new(),
            gathered: vec![0.0; lengths.states],
            normed: vec![0.0; lengths.states],
            attention: attention::Buffers::new(rows, &model.sizes),
            middle: vec![0.0; lengths.middle],
            up: Vec::new(),
            gates: vec![0.0; lengths.gates],
            weights: vec![0.0; lengths.weights],
            results: vec![0.0; lengths.results],
        }
    }

    /// What [`Self::bytes`] is before the first call.
    pub(super) fn predicted_bytes(rows: usize, plan: &Plan) -> usize {
        let lengths = Lengths::new(rows, plan, |matrix| matrix.outputs);
        let attention = 2 * rows * (plan.sizes.q_width() + plan.sizes.kv_width());
        let Lengths { states, middle, gates, weights, results } = lengths;
        4 * (2 * states + attention + middle + gates + weights + results)
    }

    /// Without the packed copy of activations that `input` holds.
    pub(super) fn bytes(&self) -> usize {
        let attention::Buffers { q, k, v, heads, .. } = &self.attention;
        let buffers = [
            q,
            k,
            v,
            heads,
            &self.gathered,
            &self.normed,
            &self.middle,
            &self.up,
            &self.gates,
            &self.weights,
            &self.results,
        ];
        4 * buffers.map(Vec::capacity).iter().sum::<usize>()
    }
}
