use std::sync::Arc;

use half::{bf16, f16};
use reprise_cuda::{
    Buffer, CudaError, Device,
    ops::{Blocks, Matrix, Outcome, Product, TileSize, Tiles, multiply, multiply_in},
    reference,
    weights::Packed,
};
use reprise_kernels::matrix::Format;

use crate::check::{Checks, Random, to_bf16, widened};

/// Random rows in a format, and the weights that the kernels see.
pub fn weights(
    random: &mut Random,
    format: Format,
    rows: usize,
    inputs: usize,
) -> Result<(Packed, Vec<f32>), CudaError> {
    let bytes = match format {
        Format::BF16 => {
            to_bf16(&random.numbers(rows * inputs, 1.0)).0.iter().flat_map(|x| x.to_le_bytes()).collect()
        }
        _ => {
            let mut bytes = random.bytes(format.row_bytes(inputs).unwrap_or(0) * rows);
            for block in bytes.chunks_exact_mut(format.block_bytes()) {
                let scale = f16::from_f32(0.004 + random.numbers(1, 0.002)[0]).to_le_bytes();
                let places: &[usize] = match format {
                    Format::Q4_1 | Format::Q5_1 | Format::Q4K | Format::Q5K => &[0, 2],
                    Format::Q6K => &[208],
                    _ => &[0],
                };
                places.iter().for_each(|at| block[*at..at + 2].copy_from_slice(&scale));
            }
            bytes
        }
    };
    let packed = Packed::new(format, rows, inputs, &bytes)?;
    let seen = packed.widened().weights();
    Ok((packed, seen))
}

pub fn check(device: &Arc<Device>, checks: &mut Checks) -> Result<(), CudaError> {
    let mut random = Random::new(1);
    for format in [Format::BF16, Format::Q4_1, Format::Q4K, Format::Q8_0, Format::Q5K, Format::Q6K] {
        // Rows that fill no tile, and few rows (narrow), some and many.
        for (rows, inputs) in [(72, 256), (1000, 512), (20_008, 256)] {
            dense(device, checks, &mut random, format, rows, inputs)?;
        }
        grouped(device, checks, &mut random, format)?;
    }
    Ok(())
}

fn dense(
    device: &Arc<Device>,
    checks: &mut Checks,
    random: &mut Random,
    format: Format,
    rows: usize,
    inputs: usize,
) -> Result<(), CudaError> {
    let most = 200;
    let (first, gate) = weights(random, format, rows, inputs)?;
    let (second, up) = weights(random, format, rows, inputs)?;
    let (first, second) = (Matrix::from_packed(device, &first)?, Matrix::from_packed(device, &second)?);
    let (x, seen) = to_bf16(&random.numbers(most * inputs, 1.0));
    let x = Buffer::from_slice(device, &x)?;
    let bias = random.numbers(rows, 1.0);
    let bias_here = Buffer::from_slice(device, &bias)?;
    let counts: &[usize] = if rows > 10_000 { &[1, 16, 200] } else { &[1, 13, 16, 40, 64, 200] };
    let mut alone: Option<Vec<f32>> = None;
    let mut gated_alone: Option<Vec<bf16>> = None;
    for tokens in counts.iter().copied() {
        let name = format!("product {format:?} {rows}x{inputs}, {tokens} tokens");
        let out = Buffer::from_slice(device, &vec![f32::NAN; tokens * rows])?;
        let mut product = Product {
            weights: &first,
            x: x.view(),
            rows: None,
            tiles: None,
            bias: Some(bias_here.view()),
            out: Outcome::Replace(out.view()),
            pitch: rows,
            tokens,
        };
        multiply(device, &product)?;
        let found = out.to_vec()?;
        let compared = tokens.min(24);
        let mut expected = reference::multiply(&gate, &seen[..compared * inputs], inputs);
        expected.iter_mut().zip(bias.iter().cycle()).for_each(|(sum, bias)| *sum += f64::from(*bias));
        checks.close(&name, &found[..compared * rows], &expected, 1e-5);
        let rounded = Buffer::from_slice(device, &vec![bf16::NAN; tokens * rows])?;
        multiply(device, &Product { out: Outcome::Round(rounded.view()), ..product })?;
        let nearest: Vec<bf16> = found.iter().map(|sum| bf16::from_f32(*sum)).collect();
        checks.same(&format!("{name}, rounded"), &rounded.to_vec()?, &nearest);
        let halves = Buffer::from_slice(device, &vec![f16::NAN; tokens * rows])?;
        multiply(device, &Product { out: Outcome::Half(halves.view()), ..product })?;
        let nearest: Vec<f16> = found.iter().map(|sum| f16::from_f32(*sum)).collect();
        checks.same(&format!("{name}, in f16"), &halves.to_vec()?, &nearest);
        let alone = alone.get_or_insert_with(|| found[..rows].to_vec());
        checks.same(&format!("{name}: the first as alone"), &bits(&found[..rows]), &bits(alone));

        product.out = Outcome::Add(out.view());
        product.bias = None;
        multiply(device, &product)?;
        let base = reference::multiply(&gate, &seen[..compared * inputs], inputs);
        expected.iter_mut().zip(base).for_each(|(sum, more)| *sum += more);
        checks.close(&format!("{name}, added"), &out.to_vec()?[..compared * rows], &expected, 1e-5);

        if rows.is_multiple_of(8) {
            let out = Buffer::from_slice(device, &vec![bf16::NAN; tokens * rows])?;
            product.out = Outcome::Gated { second: &second, out: out.view() };
            multiply(device, &product)?;
            let found = out.to_vec()?;
            let expected = reference::gated(&gate, &up, &seen[..compared * inputs], inputs);
            checks.close(&format!("{name}, gated"), &widened(&found[..compared * rows]), &expected, 4e-3);
            let alone = gated_alone.get_or_insert_with(|| found[..rows].to_vec());
            checks.same(&format!("{name}, gated: the first as alone"), &found[..rows], &alone[..]);
            checks.same(
                &format!("{name}, gated: all written"),
                &[found.iter().any(|x| x.is_nan())],
                &[false],
            );
        }
    }
    Ok(())
}

fn bits(numbers: &[f32]) -> Vec<u32> {
    numbers.iter().map(|x| x.to_bits()).collect()
}

/// Experts of which one gets no token, one most.
fn grouped(
    device: &Arc<Device>,
    checks: &mut Checks,
    random: &mut Random,
    format: Format,
) -> Result<(), CudaError> {
    let (experts, rows, inputs, tokens) = (5, 136, 256, 460);
    let mut all = Vec::new();
    let mut packed = Vec::new();
    for _ in 0..experts {
        let (one, seen) = weights(random, format, rows, inputs)?;
        all.push(seen);
        packed.push(one);
    }
    let matrix = Matrix::new(device, packed[0].form, experts, rows, inputs)?;
    for (expert, packed) in packed.iter().enumerate() {
        matrix.write(device, expert * rows, packed)?;
    }
    let (x, seen) = to_bf16(&random.numbers(tokens * inputs, 1.0));
    let x = Buffer::from_slice(device, &x)?;
    // One expert has more than a tile of them.
    let bounds = [0usize, 3, 3, 20, 380, 460];
    let rows_of: Vec<u32> = (0..tokens).map(|_| random.below(tokens as u32)).collect();
    let index = Buffer::from_slice(device, &rows_of)?;
    let (mut first, mut first_gated): (Option<Vec<u32>>, Option<Vec<bf16>>) = (None, None);
    let sizes = [TileSize::Few, TileSize::Some, TileSize::Many];
    for (size, blocks) in sizes.into_iter().flat_map(|size| Blocks::ALL.map(|blocks| (size, blocks))) {
        let mut tiles = Vec::new();
        for expert in 0..experts {
            for begin in (bounds[expert]..bounds[expert + 1]).step_by(size.tokens()) {
                let end = bounds[expert + 1].min(begin + size.tokens());
                tiles.push([expert as u32, begin as u32, end as u32, 0]);
            }
        }
        let count = Buffer::from_slice(device, &[tiles.len() as u32])?;
        let most = size.most(tokens, experts);
        tiles.resize(most, [u32::MAX; 4]);
        let tiles = Buffer::from_slice(device, &tiles)?;
        let out = Buffer::from_slice(device, &vec![f32::NAN; tokens * rows])?;
        let product = Product {
            weights: &matrix,
            x: x.view(),
            rows: Some(index.view()),
            tiles: Some(Tiles { size, tiles: tiles.view(), count: count.view(), most }),
            bias: None,
            out: Outcome::Replace(out.view()),
            pitch: rows,
            tokens,
        };
        multiply_in(device, &product, blocks)?;
        let found = out.to_vec()?;
        let rounded = Buffer::from_slice(device, &vec![bf16::NAN; tokens * rows])?;
        multiply_in(device, &Product { out: Outcome::Round(rounded.view()), ..product }, blocks)?;
        let nearest: Vec<bf16> = found.iter().map(|sum| bf16::from_f32(*sum)).collect();
        checks.same(
            &format!("grouped product {format:?}, {size:?} {blocks:?}, rounded"),
            &rounded.to_vec()?,
            &nearest,
        );
        let mut expected = Vec::new();
        for (expert, weights) in all.iter().enumerate() {
            for row in &rows_of[bounds[expert]..bounds[expert + 1]] {
                let x = &seen[*row as usize * inputs..][..inputs];
                expected.extend(reference::multiply(weights, x, inputs));
            }
        }
        checks.close(&format!("grouped product {format:?}, {size:?} {blocks:?}"), &found, &expected, 1e-5);
        let found = bits(&found);
        let first = first.get_or_insert_with(|| found.clone());
        checks.same(&format!("grouped product {format:?}, {size:?} {blocks:?}: as few"), &found, first);
        // The same matrix twice: `dense` holds the function to its reference, this the tiles to each other.
        let gated = Buffer::from_slice(device, &vec![bf16::NAN; tokens * rows])?;
        multiply_in(
            device,
            &Product { out: Outcome::Gated { second: &matrix, out: gated.view() }, ..product },
            blocks,
        )?;
        let gated = gated.to_vec()?;
        let first_gated = first_gated.get_or_insert_with(|| gated.clone());
        checks.same(
            &format!("grouped product {format:?}, {size:?} {blocks:?}, gated: as few"),
            &gated,
            first_gated,
        );
    }
    Ok(())
}
