use half::{bf16, f16};

use super::{Matrix, Module, address, grid, int, launch, module, room};
use crate::{BLOCK_TOKENS, CudaError, Device, View, weights::Form};

const THREADS: u32 = 256;

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
fn check_width(width: usize) -> Result<(), CudaError> {
    if width == 0 || !width.is_multiple_of(4) {
        return Err(CudaError::Shape(format!("rows of {width}: not in fours")));
    }
    Ok(())
}

/// Norms and turns queries and keys, and appends keys and values to the KV.
#[derive(Debug, Clone, Copy)]
pub struct Rotation<'a> {
    /// [rows, (heads + 2 kv_heads) head_dim]
    pub qkv: View<'a, f32>,
    /// Of q and k: `[head_dim]` each, or as long as the projections.
    pub norms: Option<(View<'a, f32>, View<'a, f32>)>,
    /// Cosine and sine, [positions, head_dim / 2].
    pub turns: View<'a, [f32; 2]>,
    pub positions: View<'a, i32>,
    pub table_of: View<'a, u32>,
    pub tables: View<'a, u32>,
    /// [rows, heads, head_dim]
    pub q: View<'a, f16>,
    pub keys: View<'a, f16>,
    pub values: View<'a, f16>,
    pub heads: usize,
    pub kv_heads: usize,
    pub head_dim: usize,
    /// Dimensions 2i and 2i + 1 are a pair; else i and i + head_dim / 2.
    pub interleaved: bool,
    pub eps: f32,
    /// Of queries.
    pub scale: f32,
    pub rows: usize,
}

/// # Errors
/// Shapes do not fit, or the launch failed.
pub fn rotate(device: &Device, rotation: &Rotation<'_>) -> Result<(), CudaError> {
    #[repr(C)]
    struct Raw {
        qkv: u64,
        q_norm: u64,
        k_norm: u64,
        turns: u64,
        positions: u64,
        table_of: u64,
        tables: u64,
        q: u64,
        keys: u64,
        values: u64,
        heads: i32,
        kv_heads: i32,
        head_dim: i32,
        interleaved: i32,
        whole_norm: i32,
        eps: f32,
        scale: f32,
    }
    let Rotation { heads, kv_heads, head_dim, rows, norms, .. } = *rotation;
    room("projections", rotation.qkv, rows * (heads + 2 * kv_heads) * head_dim)?;
    room("queries", rotation.q, rows * heads * head_dim)?;
    room("positions", rotation.positions, rows)?;
    room("table starts", rotation.table_of, rows)?;
    room("keys", rotation.keys, kv_heads * head_dim * BLOCK_TOKENS)?;
    room("values", rotation.values, rotation.keys.len())?;
    let whole_norm = match norms {
        None => false,
        Some((q, k)) if q.len() == head_dim && k.len() == head_dim => false,
        Some((q, k)) if q.len() == heads * head_dim && k.len() == kv_heads * head_dim => true,
        Some((q, k)) => {
            return Err(CudaError::Shape(format!("norms of {} and {} for {heads} heads", q.len(), k.len())));
        }
    };
    let raw = Raw {
        qkv: rotation.qkv.address(),
        q_norm: address(norms.map(|norms| norms.0)),
        k_norm: address(norms.map(|norms| norms.1)),
        turns: rotation.turns.address(),
        positions: rotation.positions.address(),
        table_of: rotation.table_of.address(),
        tables: rotation.tables.address(),
        q: rotation.q.address(),
        keys: rotation.keys.address(),
        values: rotation.values.address(),
        heads: int(heads),
        kv_heads: int(kv_heads),
        head_dim: int(head_dim),
        interleaved: rotation.interleaved.into(),
        whole_norm: whole_norm.into(),
        eps: rotation.eps,
        scale: rotation.scale,
    };
    launch!(device, "rotate", (grid(rows), 1, 1), THREADS, 0, raw)
}

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
    pub parts: View<'a, f32>,
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
    let raw = Raw {
        gate: gate.address(),
        up: up.address(),
        out: out.address(),
        count: grid(gate.len()),
    };
    let blocks = grid(gate.len().div_ceil(THREADS as usize)).min(16 * device.multiprocessors());
    launch!(device, "silu_mul", (blocks, 1, 1), THREADS, 0, raw)
}

/// Uniform in [-range, range], rounded to bf16: element `i` depends on the seed and `i` alone.
///
/// # Errors
/// The launch failed.
pub fn fill_random(device: &Device, out: View<'_, bf16>, seed: u64, range: f32) -> Result<(), CudaError> {
    let (address, count) = (out.address(), out.len() as u64);
    launch!(device, "fill_random", (16 * device.multiprocessors(), 1, 1), THREADS, 0, address, count, seed, range)
}
