use half::bf16;

use super::{Matrix, Module, address, grid, int, launch, module, room};
use crate::{CudaError, Device, View, weights::Form};

pub(super) const THREADS: u32 = 256;

pub(super) fn kernels() -> Module {
    module(
        "rows.cu",
        include_str!("../kernels/rows.cu"),
        &["embed", "rms_norm", "rotate", "join", "move_rows", "silu_mul", "fill_random"],
    )
}

/// `out[i] = matrix[tokens[i]]`. Tokens are the caller's promise to be within the matrix.
#[derive(Debug, Clone, Copy)]
pub struct Embedding<'a> {
    pub matrix: &'a Matrix,
    pub tokens: View<'a, u32>,
    /// [rows, inputs]
    pub out: View<'a, f32>,
    pub rows: usize,
}

/// # Errors
/// Shapes do not fit, or the launch failed.
pub fn embed(device: &Device, embedding: &Embedding<'_>) -> Result<(), CudaError> {
    #[repr(C)]
    struct Raw {
        codes: u64,
        scales: u64,
        tokens: u64,
        out: u64,
        hidden: i32,
        format: i32,
        group_shift: i32,
    }
    let Embedding { matrix, tokens, out, rows } = *embedding;
    room("tokens", tokens, rows)?;
    room("embeddings", out, rows * matrix.inputs())?;
    let format = match matrix.form() {
        Form::Bf16 => 0,
        Form::Q4 => 1,
        Form::Q8 { .. } => 2,
    };
    let raw = Raw {
        codes: matrix.codes().address(),
        scales: matrix.scales().address(),
        tokens: tokens.address(),
        out: out.address(),
        hidden: int(matrix.inputs()),
        format,
        group_shift: matrix.form().shift().into(),
    };
    launch!(device, "embed", (grid(rows), 1, 1), THREADS, 0, raw)
}

/// `out[i] = x[index[i]] / rms * weight`, in bf16.
#[derive(Debug, Clone, Copy)]
pub struct Norm<'a> {
    /// [rows, width]
    pub x: View<'a, f32>,
    /// None: row `i`.
    pub index: Option<View<'a, u32>>,
    /// `[width]`
    pub weight: View<'a, f32>,
    /// [rows, width]
    pub out: View<'a, bf16>,
    pub rows: usize,
    pub eps: f32,
}

/// # Errors
/// Shapes do not fit, or the launch failed.
pub fn rms_norm(device: &Device, norm: &Norm<'_>) -> Result<(), CudaError> {
    #[repr(C)]
    struct Raw {
        x: u64,
        weight: u64,
        out: u64,
        index: u64,
        width: i32,
        eps: f32,
    }
    let Norm { x, index, weight, out, rows, eps } = *norm;
    let width = weight.len();
    check_width(width)?;
    match index {
        Some(index) => room("the index of a norm", index, rows)?,
        None => room("x of a norm", x, rows * width)?,
    }
    room("the outcome of a norm", out, rows * width)?;
    let raw = Raw {
        x: x.address(),
        weight: weight.address(),
        out: out.address(),
        index: address(index),
        width: int(width),
        eps,
    };
    launch!(device, "rms_norm", (grid(rows), 1, 1), THREADS, 0, raw)
}

/// Four at a time.
pub(super) fn check_width(width: usize) -> Result<(), CudaError> {
    if width == 0 || !width.is_multiple_of(4) {
        return Err(CudaError::Shape(format!("rows of {width}: not in fours")));
    }
    Ok(())
}

/// `to[i] = from[index[i]]`.
///
/// # Errors
/// Shapes do not fit, or the launch failed.
pub fn gather_rows(
    device: &Device,
    from: View<'_, f32>,
    index: View<'_, u32>,
    to: View<'_, f32>,
    width: usize,
) -> Result<(), CudaError> {
    room("rows", to, index.len() * width)?;
    move_rows(device, from, index, to, width, false)
}

/// `to[index[i]] = from[i]`.
///
/// # Errors
/// Shapes do not fit, or the launch failed.
pub fn scatter_rows(
    device: &Device,
    from: View<'_, f32>,
    index: View<'_, u32>,
    to: View<'_, f32>,
    width: usize,
) -> Result<(), CudaError> {
    room("rows", from, index.len() * width)?;
    move_rows(device, from, index, to, width, true)
}

fn move_rows(
    device: &Device,
    from: View<'_, f32>,
    index: View<'_, u32>,
    to: View<'_, f32>,
    width: usize,
    scatter: bool,
) -> Result<(), CudaError> {
    #[repr(C)]
    struct Raw {
        from: u64,
        to: u64,
        index: u64,
        width: i32,
        scatter: i32,
    }
    let raw = Raw {
        from: from.address(),
        to: to.address(),
        index: index.address(),
        width: int(width),
        scatter: scatter.into(),
    };
    launch!(device, "move_rows", (grid(index.len()), 1, 1), THREADS, 0, raw)
}

/// `out = silu(gate) * up`, for a gate and an up in different forms.
///
/// # Errors
/// Shapes do not fit, or the launch failed.
pub fn silu_mul(
    device: &Device,
    gate: View<'_, f32>,
    up: View<'_, f32>,
    out: View<'_, bf16>,
) -> Result<(), CudaError> {
    #[repr(C)]
    struct Raw {
        gate: u64,
        up: u64,
        out: u64,
        count: u32,
    }
    room("up", up, gate.len())?;
    room("an outcome", out, gate.len())?;
    let raw = Raw { gate: gate.address(), up: up.address(), out: out.address(), count: grid(gate.len()) };
    let blocks = grid(gate.len().div_ceil(THREADS as usize)).min(16 * device.multiprocessors());
    launch!(device, "silu_mul", (blocks, 1, 1), THREADS, 0, raw)
}

/// Uniform in [-range, range], rounded to bf16: element `i` depends on the seed and `i` alone.
///
/// # Errors
/// The launch failed.
pub fn fill_random(device: &Device, out: View<'_, bf16>, seed: u64, range: f32) -> Result<(), CudaError> {
    let (address, count) = (out.address(), out.len() as u64);
    launch!(
        device,
        "fill_random",
        (16 * device.multiprocessors(), 1, 1),
        THREADS,
        0,
        address,
        count,
        seed,
        range
    )
}
