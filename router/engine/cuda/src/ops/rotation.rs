use half::f16;

use super::{address, grid, int, launch, room, rows::THREADS};
use crate::{BLOCK_TOKENS, CudaError, Device, View};

/// Norms and turns queries and keys, and appends keys and values to the KV.
#[derive(Debug, Clone, Copy)]
pub struct Rotation<'a> {
    /// [rows, (heads + 2 kv_heads) head_dim]
    pub qkv: View<'a, f16>,
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
