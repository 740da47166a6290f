use half::bf16;

use super::{
    address, grid, int, launch, room,
    rows::{THREADS, check_width},
};
use crate::{CudaError, Device, View};

/// The shared expert's result, and the logit of its gate.
#[derive(Debug, Clone, Copy)]
pub struct SharedPart<'a> {
    /// [rows, hidden]
    pub part: View<'a, f32>,
    /// `[rows]`
    pub gate: View<'a, f32>,
}

/// `x[index[i]] += sum of weight * part, slot 0 first (+ sigmoid(gate) * shared)`, and the norm of what follows.
#[derive(Debug, Clone, Copy)]
pub struct Join<'a> {
    pub x: View<'a, f32>,
    /// None: row `i`.
    pub index: Option<View<'a, u32>>,
    /// [parts, hidden]
    pub parts: View<'a, bf16>,
    /// [rows, top_k]
    pub part_of: View<'a, u32>,
    /// [rows, top_k]
    pub weights: View<'a, f32>,
    pub shared: Option<SharedPart<'a>>,
    /// Weight `[hidden]`, and where to: [rows, hidden].
    pub norm: Option<(View<'a, f32>, View<'a, bf16>)>,
    /// How many rows there are, at most `rows`.
    pub count: View<'a, u32>,
    pub rows: usize,
    pub hidden: usize,
    pub top_k: usize,
    /// Weights sum to 1.
    pub renormalised: bool,
    pub eps: f32,
}

/// # Errors
/// Shapes do not fit, or the launch failed.
pub fn join(device: &Device, join: &Join<'_>) -> Result<(), CudaError> {
    #[repr(C)]
    struct Raw {
        x: u64,
        parts: u64,
        part_of: u64,
        weights: u64,
        shared_part: u64,
        shared_gate: u64,
        norm_weight: u64,
        normed: u64,
        index: u64,
        rows: u64,
        hidden: i32,
        top_k: i32,
        renormalised: i32,
        eps: f32,
    }
    let Join { rows, hidden, top_k, .. } = *join;
    check_width(hidden)?;
    if !hidden.is_multiple_of(8) {
        return Err(CudaError::Shape(format!("parts of {hidden}: not in eights")));
    }
    if top_k == 0 {
        return Err(CudaError::Shape("a join of no parts".into()));
    }
    match join.index {
        Some(index) => room("the index of a join", index, rows)?,
        None => room("x of a join", join.x, rows * hidden)?,
    }
    room("places of parts", join.part_of, rows * top_k)?;
    room("weights of parts", join.weights, rows * top_k)?;
    room("parts", join.parts, rows * top_k * hidden)?;
    room("a count of rows", join.count, 1)?;
    if let Some(shared) = join.shared {
        room("shared parts", shared.part, rows * hidden)?;
        room("shared gates", shared.gate, rows)?;
    }
    if let Some((weight, out)) = join.norm {
        room("a norm", weight, hidden)?;
        room("the outcome of a norm", out, rows * hidden)?;
    }
    let raw = Raw {
        x: join.x.address(),
        parts: join.parts.address(),
        part_of: join.part_of.address(),
        weights: join.weights.address(),
        shared_part: address(join.shared.map(|shared| shared.part)),
        shared_gate: address(join.shared.map(|shared| shared.gate)),
        norm_weight: address(join.norm.map(|norm| norm.0)),
        normed: address(join.norm.map(|norm| norm.1)),
        index: address(join.index),
        rows: join.count.address(),
        hidden: int(hidden),
        top_k: int(top_k),
        renormalised: join.renormalised.into(),
        eps: join.eps,
    };
    launch!(device, "join", (grid(rows), 1, 1), THREADS, 0, raw)
}
