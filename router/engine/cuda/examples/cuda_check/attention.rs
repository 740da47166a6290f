use std::sync::Arc;

use half::{bf16, f16};
use reprise_cuda::{
    BLOCK_TOKENS, Buffer, CHUNK_TOKENS, CudaError, Device,
    ops::{Attention, PrefillTile, attention_decode, attention_prefill},
    reference::{self, PagedKv},
};

use crate::check::{Checks, Random, to_f16, widened};

pub fn check(device: &Arc<Device>, checks: &mut Checks) -> Result<(), CudaError> {
    for (heads, kv_heads, head_dim) in [(16, 16, 128), (32, 4, 128), (9, 3, 64), (12, 2, 128), (4, 2, 32)] {
        one(device, checks, heads, kv_heads, head_dim)?;
    }
    Ok(())
}

/// A run of 150 tokens of one sequence behind 60 others, some tokens alone, and one row that is none.
fn one(
    device: &Arc<Device>,
    checks: &mut Checks,
    heads: usize,
    kv_heads: usize,
    head_dim: usize,
) -> Result<(), CudaError> {
    let mut random = Random::new(heads as u64);
    let mut positions: Vec<i32> = (60..210).collect();
    positions.extend([0, 31, 32, 63, 64, 500, -1, 127]);
    let tokens = positions.len();
    let run = 150;
    let mut tables = Vec::new();
    let mut table_of = vec![0u32; tokens];
    let mut blocks = 0u32;
    for i in 0..tokens {
        if i > 0 && i < run {
            continue;
        }
        table_of[i] = tables.len() as u32;
        let last = if i == 0 { 209 } else { positions[i].max(0) };
        let count = last as u32 / BLOCK_TOKENS as u32 + 1;
        // In no order.
        tables.extend((0..count).rev().map(|b| blocks + b));
        blocks += count;
    }
    let size = blocks as usize * kv_heads * head_dim * BLOCK_TOKENS;
    let (mut keys, mut seen_keys) = to_f16(&random.numbers(size, 1.0));
    let (mut values, mut seen_values) = to_f16(&random.numbers(size, 1.0));
    // What lies beyond each sequence's end was never written.
    for i in (0..tokens).filter(|i| *i == 0 || *i >= run) {
        let last = if i == 0 { 209 } else { positions[i].max(0) } as usize;
        let block = tables[table_of[i] as usize + last / BLOCK_TOKENS] as usize;
        for head in 0..kv_heads {
            let first = (block * kv_heads + head) * BLOCK_TOKENS * head_dim;
            for slot in last % BLOCK_TOKENS + 1..BLOCK_TOKENS {
                for d in 0..head_dim {
                    let (k, v) = (first + slot * head_dim + d, first + d * BLOCK_TOKENS + slot);
                    (keys[k], values[v]) = (f16::NAN, f16::NAN);
                    (seen_keys[k], seen_values[v]) = (f32::NAN, f32::NAN);
                }
            }
        }
    }
    let (q, seen_q) = to_f16(&random.numbers(tokens * heads * head_dim, 1.0));
    let q = Buffer::from_slice(device, &q)?;
    let (keys, values) = (Buffer::from_slice(device, &keys)?, Buffer::from_slice(device, &values)?);
    let on_device = Buffer::from_slice(device, &positions)?;
    let (starts, all_tables) = (Buffer::from_slice(device, &table_of)?, Buffer::from_slice(device, &tables)?);
    let out = Buffer::<bf16>::new(device, tokens * heads * head_dim)?;
    let attention = Attention {
        q: q.view(),
        keys: keys.view(),
        values: values.view(),
        positions: on_device.view(),
        table_of: starts.view(),
        tables: all_tables.view(),
        out: out.view(),
        heads,
        kv_heads,
        head_dim,
        tokens,
    };
    let chunks = 500 / CHUNK_TOKENS + 2;
    let parts = Buffer::from_slice(device, &vec![f32::NAN; tokens * heads * chunks * head_dim])?;
    let sums = Buffer::from_slice(device, &vec![[f32::NAN; 2]; tokens * heads * chunks])?;
    attention_decode(device, &attention, chunks, parts.view(), sums.view())?;
    let decoded = out.to_vec()?;
    let kv = PagedKv { keys: &seen_keys, values: &seen_values, kv_heads, head_dim };
    let width = heads * head_dim;
    let mut expected = Vec::new();
    let mut found = Vec::new();
    for i in (0..tokens).filter(|i| positions[*i] >= 0 && (i % 7 == 0 || *i >= run)) {
        let table = &tables[table_of[i] as usize..];
        expected.extend(reference::attend(&kv, &seen_q[i * width..][..width], table, positions[i] as usize));
        found.extend(widened(&decoded[i * width..][..width]));
    }
    let name = format!("attention, {heads} heads over {kv_heads} of {head_dim}");
    checks.close(&format!("{name}, decode"), &found, &expected, 3e-3);

    let out = Buffer::<bf16>::new(device, tokens * heads * head_dim)?;
    let most = PrefillTile::most(heads / kv_heads);
    let mut tiles: Vec<[u32; 4]> = Vec::new();
    for first in (0..run).step_by(most) {
        tiles.push(PrefillTile { first: first as u32, count: most.min(run - first) as u32 }.raw());
    }
    tiles.extend(
        (run..tokens).filter(|i| positions[*i] >= 0).map(|i| PrefillTile { first: i as u32, count: 1 }.raw()),
    );
    let count = tiles.len();
    let tiles = Buffer::from_slice(device, &tiles)?;
    attention_prefill(device, &Attention { out: out.view(), ..attention }, tiles.view(), count)?;
    let bits = |numbers: &[bf16]| numbers.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
    checks.same(&format!("{name}, prefill as decode"), &bits(&out.to_vec()?), &bits(&decoded));
    Ok(())
}
