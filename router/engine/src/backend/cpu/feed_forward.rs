use reprise_kernels::{
    activation::silu_mul,
    matrix::{Input, Matrix, gate_up, multiply, multiply_add},
    pool::Pool,
};

use super::products::fill_and_multiply;
use crate::graph::Mlp;

/// What a feed-forward writes between its products.
pub(super) struct Buffers<'a> {
    pub(super) input: &'a mut Input,
    /// [rows, width]
    pub(super) middle: &'a mut [f32],
    /// [rows, width]; used only where gate and up take different forms of activations.
    pub(super) up: &'a mut Vec<f32>,
}

/// `states += down(silu(gate(x)) * up(x))`; `x` and `states`: [rows, hidden].
pub(super) fn add_mlp(
    pool: &Pool,
    mlp: &Mlp<Matrix>,
    x: &[f32],
    buffers: &mut Buffers<'_>,
    states: &mut [f32],
) {
    fill_middle(pool, mlp, x, buffers);
    multiply_add(pool, buffers.input, &mlp.down, states);
}

/// `out = down(silu(gate(x)) * up(x))`; `x` and `out`: [rows, hidden].
pub(super) fn mlp(pool: &Pool, mlp: &Mlp<Matrix>, x: &[f32], buffers: &mut Buffers<'_>, out: &mut [f32]) {
    fill_middle(pool, mlp, x, buffers);
    multiply(pool, buffers.input, &mut [(&mlp.down, out)]);
}

/// Leaves `silu(gate(x)) * up(x)` in the input, in the form that `down` takes.
fn fill_middle(pool: &Pool, mlp: &Mlp<Matrix>, x: &[f32], buffers: &mut Buffers<'_>) {
    let Mlp { gate, up, down } = mlp;
    let rows = x.len() / gate.inputs();
    let middle = &mut buffers.middle[..rows * gate.outputs()];
    if gate.input_form() == up.input_form() {
        buffers.input.fill(pool, gate.input_form(), x, gate.inputs());
        gate_up(pool, buffers.input, gate, up, middle);
    } else {
        buffers.up.resize(middle.len(), 0.0);
        fill_and_multiply(pool, buffers.input, x, &mut [(gate, middle), (up, buffers.up)]);
        silu_mul(pool, middle, buffers.up);
    }
    buffers.input.fill(pool, down.input_form(), middle, down.inputs());
}
