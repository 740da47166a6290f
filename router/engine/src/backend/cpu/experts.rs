use reprise_kernels::{
    activation::{GateWeights, softmax_top_k},
    matrix::Matrix,
    norm::rms_norm,
    pool::Pool,
};
use reprise_scheduler::{ExpertId, PartWork, Row};

use super::{
    arena::Arena,
    feed_forward::{self, Buffers},
    products::fill_and_multiply,
    scratch::Scratch,
};
use crate::graph::{Experts, SharedExpert};

type Layer = Experts<Matrix, Vec<f32>>;

/// Norms the rows, keeps that for the experts, and chooses `top_k` of them for each.
pub(super) fn gate(
    pool: &Pool,
    layer: &Layer,
    eps: f32,
    rows: &[Row],
    arena: &mut Arena,
    scratch: &mut Scratch,
    chosen: &mut Vec<ExpertId>,
) {
    let Scratch { input, gathered, normed, gates, weights, .. } = scratch;
    let (experts, top_k) = (layer.experts.len(), layer.top_k);
    let normed = &mut normed[..rows.len() * layer.norm.len()];
    arena.with_states(rows.iter().copied(), gathered, |states| {
        rms_norm(pool, states, &layer.norm, eps, normed);
    });
    for (row, normed) in rows.iter().zip(normed.chunks_exact(layer.norm.len())) {
        arena.set_normed(*row, normed);
    }
    let gates = &mut gates[..rows.len() * experts];
    fill_and_multiply(pool, input, normed, &mut [(&layer.gate, &mut *gates)]);
    chosen.resize(rows.len() * top_k, 0);
    let weights = &mut weights[..rows.len() * top_k];
    let kind = if layer.renormalise { GateWeights::OfChosen } else { GateWeights::OfAll };
    softmax_top_k(gates, experts, top_k, kind, chosen, weights);
    for (row, weights) in rows.iter().zip(weights.chunks_exact(top_k)) {
        arena.weights_mut(*row, top_k).copy_from_slice(weights);
    }
}

/// Computes parts, which are sorted by expert: one expert's rows together.
pub(super) fn compute(
    pool: &Pool,
    layer: &Layer,
    parts: &[PartWork],
    arena: &mut Arena,
    scratch: &mut Scratch,
) {
    let Scratch { input, gathered, middle, up, results, .. } = scratch;
    let hidden = layer.norm.len();
    for parts in parts.chunk_by(|a, b| a.expert == b.expert) {
        let Some(first) = parts.first() else { continue };
        let expert = &layer.experts[usize::from(first.expert)];
        let x = &mut gathered[..parts.len() * hidden];
        for (part, x) in parts.iter().zip(x.chunks_exact_mut(hidden)) {
            x.copy_from_slice(arena.normed(part.row));
        }
        let results = &mut results[..parts.len() * hidden];
        feed_forward::mlp(pool, expert, x, &mut Buffers { input, middle, up }, results);
        for (part, result) in parts.iter().zip(results.chunks_exact(hidden)) {
            arena.part_mut(part.row, part.slot).copy_from_slice(result);
        }
    }
}

/// `state += sum of weight * part, slot 0 first, + shared expert`.
pub(super) fn join(pool: &Pool, layer: &Layer, rows: &[Row], arena: &mut Arena, scratch: &mut Scratch) {
    let hidden = layer.norm.len();
    if let Some(shared) = &layer.shared {
        compute_shared(pool, shared, rows, arena, scratch);
    }
    let Scratch { normed: sums, results, .. } = scratch;
    let sums = &mut sums[..rows.len() * hidden];
    sums.fill(0.0);
    for (row, sum) in rows.iter().zip(sums.chunks_exact_mut(hidden)) {
        if layer.renormalise {
            arena.add_mean_of_parts(*row, layer.top_k, sum);
        } else {
            arena.add_parts(*row, layer.top_k, sum);
        }
    }
    if layer.shared.is_some() {
        add(sums, results);
    }
    for (row, sum) in rows.iter().zip(sums.chunks_exact(hidden)) {
        add(arena.state_mut(*row), sum);
    }
}

/// Leaves `sigmoid(gate(x)) * mlp(x)` in the scratch's results.
fn compute_shared(
    pool: &Pool,
    shared: &SharedExpert<Matrix>,
    rows: &[Row],
    arena: &Arena,
    scratch: &mut Scratch,
) {
    let Scratch { input, gathered, middle, up, gates, results, .. } = scratch;
    let hidden = shared.gate.inputs();
    let x = &mut gathered[..rows.len() * hidden];
    for (row, x) in rows.iter().zip(x.chunks_exact_mut(hidden)) {
        x.copy_from_slice(arena.normed(*row));
    }
    let gates = &mut gates[..rows.len()];
    fill_and_multiply(pool, input, x, &mut [(&shared.gate, &mut *gates)]);
    let results = &mut results[..rows.len() * hidden];
    feed_forward::mlp(pool, &shared.mlp, x, &mut Buffers { input, middle, up }, results);
    for (gate, result) in gates.iter().zip(results.chunks_exact_mut(hidden)) {
        let open = 1.0 / (1.0 + (-gate).exp());
        result.iter_mut().for_each(|x| *x *= open);
    }
}

fn add(sum: &mut [f32], addend: &[f32]) {
    for (sum, addend) in sum.iter_mut().zip(addend) {
        *sum += addend;
    }
}
