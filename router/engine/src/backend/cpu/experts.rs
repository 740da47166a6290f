use reprise_kernels::{
    activation::{GateWeights, softmax_top_k},
    matrix::{Matrix, gate_up_groups, multiply_groups},
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
use crate::graph::{Experts, Mlp, SharedExpert};

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

/// Computes parts, which are sorted by expert.
pub(super) fn compute(
    pool: &Pool,
    layer: &Layer,
    parts: &[PartWork],
    arena: &mut Arena,
    scratch: &mut Scratch,
) {
    let Scratch { input, gathered, middle, up, results, .. } = scratch;
    let mut buffers = Buffers { input, middle, up };
    let hidden = layer.norm.len();
    // A call may hold all parts of all rows; buffers are for as many as the arena has rows.
    let most = gathered.len() / hidden;
    for parts in parts.chunks(most) {
        let x = &mut gathered[..parts.len() * hidden];
        for (part, x) in parts.iter().zip(x.chunks_exact_mut(hidden)) {
            x.copy_from_slice(arena.normed(part.row));
        }
        let out = &mut results[..parts.len() * hidden];
        if experts_of(layer, parts).all(|expert| is_alike(expert, &layer.experts[0])) {
            compute_together(pool, layer, parts, x, &mut buffers, out);
        } else {
            compute_apart(pool, layer, parts, x, &mut buffers, out);
        }
        for (part, result) in parts.iter().zip(out.chunks_exact(hidden)) {
            arena.part_mut(part.row, part.slot).copy_from_slice(result);
        }
    }
}

/// Parts of one expert.
fn groups(parts: &[PartWork]) -> impl Iterator<Item = &[PartWork]> + Clone {
    parts.chunk_by(|a, b| a.expert == b.expert)
}

fn experts_of<'a>(layer: &'a Layer, parts: &'a [PartWork]) -> impl Iterator<Item = &'a Mlp<Matrix>> + Clone {
    groups(parts).filter_map(|group| layer.experts.get(usize::from(group.first()?.expert)))
}

/// Whether both take activations in the same forms. An expert that was added later may be in another format.
fn is_alike(a: &Mlp<Matrix>, b: &Mlp<Matrix>) -> bool {
    let form = a.gate.input_form();
    form == a.up.input_form()
        && form == b.gate.input_form()
        && form == b.up.input_form()
        && a.down.input_form() == b.down.input_form()
}

/// All experts in two parallel regions. `x` and `out`: [parts, hidden].
fn compute_together(
    pool: &Pool,
    layer: &Layer,
    parts: &[PartWork],
    x: &[f32],
    buffers: &mut Buffers<'_>,
    out: &mut [f32],
) {
    let Buffers { input, middle, .. } = buffers;
    let Mlp { gate, down, .. } = &layer.experts[0];
    let experts = experts_of(layer, parts);
    let middle = &mut middle[..parts.len() * gate.outputs()];
    input.fill_groups(pool, gate.input_form(), x, gate.inputs(), groups(parts).map(<[_]>::len));
    gate_up_groups(pool, input, experts.clone().map(|expert| (&expert.gate, &expert.up)), middle);
    input.fill_groups(pool, down.input_form(), middle, down.inputs(), groups(parts).map(<[_]>::len));
    multiply_groups(pool, input, experts.map(|expert| &expert.down), out);
}

/// One expert after the other. `x` and `out`: [parts, hidden].
fn compute_apart(
    pool: &Pool,
    layer: &Layer,
    parts: &[PartWork],
    x: &[f32],
    buffers: &mut Buffers<'_>,
    out: &mut [f32],
) {
    let hidden = layer.norm.len();
    let mut begin = 0;
    for (group, expert) in groups(parts).zip(experts_of(layer, parts)) {
        let range = begin * hidden..(begin + group.len()) * hidden;
        begin += group.len();
        feed_forward::mlp(pool, expert, &x[range.clone()], buffers, &mut out[range]);
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
