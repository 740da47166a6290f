use std::sync::Arc;

use half::{bf16, f16};
use reprise_cuda::{
    BLOCK_TOKENS, Buffer, CudaError, Device,
    ops::{
        Embedding, Grouping, Join, Matrix, Norm, Rotation, Routing, SharedPart, TileSize, Tiles, argmax,
        embed, fill_random, gather_rows, group_parts, join, rms_norm, rotate, route, scatter_rows, silu_mul,
    },
    reference,
};
use reprise_kernels::matrix::Format;

use crate::{
    check::{Checks, Random, to_bf16, to_f16, widened},
    product::weights,
};

pub fn check(device: &Arc<Device>, checks: &mut Checks) -> Result<(), CudaError> {
    let mut random = Random::new(5);
    small(device, checks, &mut random)?;
    for (heads, kv_heads, head_dim, norm, interleaved) in
        [(9, 3, 64, 0, true), (32, 4, 128, 1, false), (16, 16, 128, 2, false), (12, 2, 128, 0, false)]
    {
        rotation(device, checks, &mut random, heads, kv_heads, head_dim, norm, interleaved)?;
    }
    for (rows, experts, top_k) in [(1, 64, 8), (64, 128, 8), (300, 60, 4), (2000, 8, 2)] {
        routing(device, checks, &mut random, rows, experts, top_k)?;
    }
    for vocabulary in [100, 49_152, 151_936] {
        choices(device, checks, &mut random, vocabulary)?;
    }
    Ok(())
}

fn small(device: &Arc<Device>, checks: &mut Checks, random: &mut Random) -> Result<(), CudaError> {
    for format in [Format::BF16, Format::Q4_1, Format::Q6K] {
        let (packed, _) = weights(random, format, 50, 512)?;
        let matrix = Matrix::from_packed(device, &packed)?;
        let tokens = Buffer::from_slice(device, &[49, 0, 7])?;
        let out = Buffer::from_slice(device, &[f32::NAN; 3 * 512])?;
        embed(device, &Embedding { matrix: &matrix, tokens: tokens.view(), out: out.view(), rows: 3 })?;
        let all = packed.weights();
        let expected: Vec<f32> = [49, 0, 7].iter().flat_map(|t| all[t * 512..][..512].to_vec()).collect();
        checks.same(&format!("embedding {format:?}"), &out.to_vec()?, &expected);
    }
    for width in [576, 2048, 1540] {
        let (x, weight) = (random.numbers(5 * width, 3.0), random.numbers(width, 1.0));
        let (from, scale) = (Buffer::from_slice(device, &x)?, Buffer::from_slice(device, &weight)?);
        let index = [4u32, 1];
        let at = Buffer::from_slice(device, &index)?;
        let out = Buffer::from_slice(device, &vec![bf16::NAN; 2 * width])?;
        let (x_view, out_view) = (from.view(), out.view());
        let norm = Norm {
            x: x_view,
            index: Some(at.view()),
            weight: scale.view(),
            out: out_view,
            rows: 2,
            eps: 1e-5,
        };
        rms_norm(device, &norm)?;
        let picked: Vec<f32> =
            index.iter().flat_map(|i| x[*i as usize * width..][..width].to_vec()).collect();
        checks.close(
            &format!("norm of {width}"),
            &widened(&out.to_vec()?),
            &reference::rms_norm(&picked, &weight, 1e-5),
            3e-3,
        );

        let (rows, back) = (Buffer::<f32>::new(device, 2 * width)?, Buffer::<f32>::new(device, 5 * width)?);
        gather_rows(device, from.view(), at.view(), rows.view(), width)?;
        checks.same(&format!("gather of {width}"), &rows.to_vec()?, &picked);
        scatter_rows(device, rows.view(), at.view(), back.view(), width)?;
        let mut expected = vec![0.0; 5 * width];
        index.iter().for_each(|i| {
            expected[*i as usize * width..][..width].copy_from_slice(&x[*i as usize * width..][..width]);
        });
        checks.same(&format!("scatter of {width}"), &back.to_vec()?, &expected);
    }
    let (gate, up) = (random.numbers(5000, 4.0), random.numbers(5000, 4.0));
    let (g, u) = (Buffer::from_slice(device, &gate)?, Buffer::from_slice(device, &up)?);
    let out = Buffer::from_slice(device, &[bf16::NAN; 5000])?;
    silu_mul(device, g.view(), u.view(), out.view())?;
    let expected: Vec<f64> = gate
        .iter()
        .zip(&up)
        .map(|(g, u)| f64::from(*g) / (1.0 + f64::from(-g).exp()) * f64::from(*u))
        .collect();
    checks.close("silu times up", &widened(&out.to_vec()?), &expected, 3e-3);

    let out = Buffer::from_slice(device, &[bf16::NAN; 4096])?;
    fill_random(device, out.view(), 11, 0.5)?;
    let found = out.to_vec()?;
    let expected: Vec<u16> = (0..4096).map(|i| reprise_cuda::weights::random(11, i, 0.5).to_bits()).collect();
    checks.same("random weights", &found.iter().map(|x| x.to_bits()).collect::<Vec<_>>(), &expected);
    Ok(())
}

/// `norm`: 0 none, 1 by head, 2 of the projection.
#[expect(clippy::too_many_arguments, reason = "a table of cases")]
fn rotation(
    device: &Arc<Device>,
    checks: &mut Checks,
    random: &mut Random,
    heads: usize,
    kv_heads: usize,
    head_dim: usize,
    norm: usize,
    interleaved: bool,
) -> Result<(), CudaError> {
    // A sequence over two blocks, no token, one alone, and two that share no eight slots.
    let mut positions: Vec<i32> = (20..46).collect();
    positions.extend([-1, 40, 7, 8]);
    let tables = [3u32, 1, 0, 2, 4];
    let mut table_of = vec![0u32; 26];
    table_of.extend([0, 2, 4, 4]);
    let (rows, width, eps, scale) = (positions.len(), (heads + 2 * kv_heads) * head_dim, 1e-6, 0.25f32);
    let (qkv_16, qkv) = to_f16(&random.numbers(rows * width, 2.0));
    let frequencies: Vec<f32> =
        (0..head_dim / 2).map(|i| 10_000f32.powf(-2.0 * i as f32 / head_dim as f32)).collect();
    let turns: Vec<[f32; 2]> = (0..64)
        .flat_map(|p| {
            frequencies
                .iter()
                .map(move |f| (p as f32 * f).sin_cos())
                .map(|(sin, cos)| [cos, sin])
                .collect::<Vec<_>>()
        })
        .collect();
    let (q_width, kv_width) = (heads * head_dim, kv_heads * head_dim);
    let lengths = if norm == 2 { (q_width, kv_width) } else { (head_dim, head_dim) };
    let (q_norm, k_norm) = (random.numbers(lengths.0, 1.0), random.numbers(lengths.1, 1.0));
    let (q_here, k_here) = (Buffer::from_slice(device, &q_norm)?, Buffer::from_slice(device, &k_norm)?);
    let size = tables.len() * kv_width * BLOCK_TOKENS;
    let (keys, values) = (Buffer::<f16>::new(device, size)?, Buffer::<f16>::new(device, size)?);
    let q = Buffer::<f16>::new(device, rows * q_width)?;
    let (qkv_here, turns) = (Buffer::from_slice(device, &qkv_16)?, Buffer::from_slice(device, &turns)?);
    let on_device = Buffer::from_slice(device, &positions)?;
    let (starts, all_tables) = (Buffer::from_slice(device, &table_of)?, Buffer::from_slice(device, &tables)?);
    rotate(
        device,
        &Rotation {
            qkv: qkv_here.view(),
            norms: (norm > 0).then(|| (q_here.view(), k_here.view())),
            turns: turns.view(),
            positions: on_device.view(),
            table_of: starts.view(),
            tables: all_tables.view(),
            q: q.view(),
            keys: keys.view(),
            values: values.view(),
            heads,
            kv_heads,
            head_dim,
            interleaved,
            eps,
            scale,
            rows,
        },
    )?;
    let (q, keys, values) = (q.to_vec()?, keys.to_vec()?, values.to_vec()?);
    let (mut found, mut expected) = (Vec::new(), Vec::new());
    let real = || (0..rows).filter(|row| positions[*row] >= 0);
    for row in real() {
        let position = positions[row] as u32;
        let from = &qkv[row * width..][..width];
        let mut turned = |x: &[f32], weight: &[f32], factor: f64| {
            let x: Vec<f64> = match norm {
                0 => x.iter().map(|x| f64::from(*x)).collect(),
                1 => {
                    x.chunks_exact(head_dim).flat_map(|head| reference::rms_norm(head, weight, eps)).collect()
                }
                _ => reference::rms_norm(x, weight, eps),
            };
            for head in x.chunks_exact(head_dim) {
                let head = reference::rotate(head, position, &frequencies, interleaved);
                expected.extend(head.into_iter().map(|x| x * factor));
            }
        };
        turned(&from[..q_width], &q_norm, scale.into());
        turned(&from[q_width..q_width + kv_width], &k_norm, 1.0);
        expected.extend(from[q_width + kv_width..].iter().map(|x| f64::from(*x)));
        found.extend(q[row * q_width..][..q_width].iter().map(|x| x.to_f32()));
        let block = tables[table_of[row] as usize + position as usize / BLOCK_TOKENS] as usize;
        let slot = position as usize % BLOCK_TOKENS;
        let first = |i: usize| (block * kv_heads + i / head_dim) * BLOCK_TOKENS * head_dim;
        found.extend((0..kv_width).map(|i| keys[first(i) + slot * head_dim + i % head_dim].to_f32()));
        found.extend((0..kv_width).map(|i| values[first(i) + i % head_dim * BLOCK_TOKENS + slot].to_f32()));
    }
    checks.close(
        &format!("rotation of {heads}+{kv_heads} heads of {head_dim}, norm {norm}"),
        &found,
        &expected,
        1e-3,
    );
    for written in [keys, values] {
        let written = written.iter().filter(|x| x.to_f32() != 0.0).count();
        checks.same("rotation: nothing else written", &[written <= real().count() * kv_width], &[true]);
    }
    Ok(())
}

fn routing(
    device: &Arc<Device>,
    checks: &mut Checks,
    random: &mut Random,
    rows: usize,
    experts: usize,
    top_k: usize,
) -> Result<(), CudaError> {
    let hidden = 128;
    // Steps of an eighth: some are equal.
    let logits: Vec<f32> =
        random.numbers(rows * experts, 4.0).iter().map(|x| (x * 8.0).round() / 8.0).collect();
    let here = Buffer::from_slice(device, &logits)?;
    let (chosen, weights) =
        (Buffer::<u32>::new(device, rows * top_k)?, Buffer::<f32>::new(device, rows * top_k)?);
    let (part_of, row_of) =
        (Buffer::<u32>::new(device, rows * top_k)?, Buffer::<u32>::new(device, rows * top_k)?);
    let size = TileSize::for_groups(rows * top_k, experts);
    let most = size.most(rows * top_k, experts);
    let (tiles, tile_count) = (Buffer::<[u32; 4]>::new(device, most)?, Buffer::<u32>::new(device, 1)?);
    // One row less than there is room for.
    let real = rows.max(2) - 1;
    let count = Buffer::from_slice(device, &[real as u32])?;
    let grouping = Grouping {
        part_of: part_of.view(),
        row_of: row_of.view(),
        tiles: Tiles { size, tiles: tiles.view(), count: tile_count.view(), most },
        count: count.view(),
        rows,
        experts,
        top_k,
    };
    for renormalise in [false, true] {
        let routing =
            Routing { logits: here.view(), chosen: chosen.view(), weights: weights.view(), renormalise };
        route(device, &routing, &grouping)?;
        let (experts_found, weights_found) = (chosen.to_vec()?, weights.to_vec()?);
        let (mut expected, mut expected_weights) = (Vec::new(), Vec::new());
        for row in logits.chunks_exact(experts).take(real) {
            let (experts, weights) = reference::choose(row, top_k, renormalise);
            expected.extend(experts);
            expected_weights.extend(weights);
        }
        let name = format!("routing of {real} rows, {top_k} of {experts}");
        checks.same(&name, &experts_found[..real * top_k], &expected);
        checks.close(&format!("{name}, weights"), &weights_found[..real * top_k], &expected_weights, 1e-5);
        check_groups(checks, &name, &expected, &grouping, &part_of, &row_of, &tiles, &tile_count)?;
    }
    group_parts(device, chosen.view(), &grouping)?;
    check_groups(
        checks,
        "grouping alone",
        &chosen.to_vec()?[..real * top_k],
        &grouping,
        &part_of,
        &row_of,
        &tiles,
        &tile_count,
    )?;

    let (parts_16, parts) = to_bf16(&random.numbers(rows * top_k * hidden, 1.0));
    let (shared, gates) = (random.numbers(rows * hidden, 1.0), random.numbers(rows, 2.0));
    let (x, norm) = (random.numbers(rows * hidden, 1.0), random.numbers(hidden, 1.0));
    let (places, share) = (part_of.to_vec()?, weights.to_vec()?);
    let parts_here = Buffer::from_slice(device, &parts_16)?;
    let (shared_here, gates_here) =
        (Buffer::from_slice(device, &shared)?, Buffer::from_slice(device, &gates)?);
    let norm_here = Buffer::from_slice(device, &norm)?;
    let normed = Buffer::<bf16>::new(device, rows * hidden)?;
    for renormalised in [false, true] {
        let x_here = Buffer::from_slice(device, &x)?;
        let with_shared = !renormalised;
        join(
            device,
            &Join {
                x: x_here.view(),
                index: None,
                parts: parts_here.view(),
                part_of: part_of.view(),
                weights: weights.view(),
                shared: with_shared.then(|| SharedPart { part: shared_here.view(), gate: gates_here.view() }),
                norm: Some((norm_here.view(), normed.view())),
                count: count.view(),
                rows,
                hidden,
                top_k,
                renormalised,
                eps: 1e-5,
            },
        )?;
        let found = x_here.to_vec()?;
        let mut expected = Vec::new();
        for row in 0..real {
            let of_row: Vec<&[f32]> = (0..top_k)
                .map(|slot| &parts[places[row * top_k + slot] as usize * hidden..][..hidden])
                .collect();
            let own = with_shared.then(|| (&shared[row * hidden..][..hidden], gates[row]));
            let gain = reference::join(&of_row, &share[row * top_k..][..top_k], own);
            expected.extend(gain.iter().zip(&x[row * hidden..]).map(|(gain, x)| gain + f64::from(*x)));
        }
        checks.close(
            &format!("join of {real} rows, renormalised {renormalised}"),
            &found[..real * hidden],
            &expected,
            1e-5,
        );
        checks.same("join: no other row", &found[real * hidden..], &x[real * hidden..]);
        let expected = reference::rms_norm(&found[..real * hidden], &norm, 1e-5);
        checks.close(
            "join: the norm behind it",
            &widened(&normed.to_vec()?[..real * hidden]),
            &expected,
            3e-3,
        );
    }
    Ok(())
}

#[expect(clippy::too_many_arguments, reason = "buffers of one grouping")]
fn check_groups(
    checks: &mut Checks,
    name: &str,
    chosen: &[u32],
    grouping: &Grouping<'_>,
    part_of: &Buffer<u32>,
    row_of: &Buffer<u32>,
    tiles: &Buffer<[u32; 4]>,
    tile_count: &Buffer<u32>,
) -> Result<(), CudaError> {
    let bounds = reference::group(chosen, grouping.experts);
    let (places, rows) = (part_of.to_vec()?, row_of.to_vec()?);
    let placed = chosen.iter().zip(&places).enumerate().all(|(part, (expert, place))| {
        let range = bounds[*expert as usize]..bounds[*expert as usize + 1];
        range.contains(&(*place as usize)) && rows[*place as usize] as usize == part / grouping.top_k
    });
    let mut taken: Vec<u32> = places[..chosen.len()].to_vec();
    taken.sort_unstable();
    taken.dedup();
    checks.same(
        &format!("{name}: each part in its expert's place"),
        &[placed, taken.len() == chosen.len()],
        &[true, true],
    );
    let mut expected = Vec::new();
    for expert in 0..grouping.experts {
        let (first, end) = (bounds[expert], bounds[expert + 1]);
        let tiles = (end - first).div_ceil(grouping.tiles.size.tokens());
        let size = (end - first).div_ceil(tiles.max(1)).next_multiple_of(16);
        for tile in 0..tiles {
            let begin = (first + tile * size).min(end);
            expected.push([expert as u32, begin as u32, (begin + size).min(end) as u32, 0]);
        }
    }
    checks.same(&format!("{name}: count of tiles"), &tile_count.to_vec()?, &[expected.len() as u32]);
    checks.same(&format!("{name}: tiles"), &tiles.to_vec()?[..expected.len()], &expected);
    Ok(())
}

fn choices(
    device: &Arc<Device>,
    checks: &mut Checks,
    random: &mut Random,
    vocabulary: usize,
) -> Result<(), CudaError> {
    let rows = 5;
    let mut logits = random.numbers(rows * vocabulary, 10.0);
    logits[3] = f32::NAN;
    // Equal largest, and a row with one number, and one with none.
    (logits[vocabulary + 90], logits[vocabulary + 40]) = (11.0, 11.0);
    logits[3 * vocabulary..].fill(f32::NEG_INFINITY);
    logits[3 * vocabulary + 50] = -3.0;
    logits[4 * vocabulary..].fill(f32::NAN);
    let here = Buffer::from_slice(device, &logits)?;
    let out = Buffer::<[u32; 4]>::new(device, rows)?;
    argmax(device, here.view(), vocabulary, rows, out.view())?;
    let found: Vec<[u32; 2]> = out.to_vec()?.iter().map(|[a, _, b, _]| [*a, *b]).collect();
    let expected: Vec<[u32; 2]> = logits.chunks_exact(vocabulary).map(reference::argmax).collect();
    checks.same(&format!("choice of {vocabulary}"), &found, &expected);
    Ok(())
}
