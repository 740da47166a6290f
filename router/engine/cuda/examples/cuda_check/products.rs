//! Times of experts' products at the loads that calls have, in tiles and blocks of every size: what `ops::cut` chooses by.

use std::sync::Arc;

use reprise_cuda::{
    Buffer, CudaError, Device,
    ops::{Blocks, Matrix, Outcome, Product, TileSize, Tiles, multiply_in, tiles},
};

use crate::times::{BANDWIDTH, matrix, median, random};

struct Shape {
    name: &'static str,
    hidden: usize,
    width: usize,
    experts: usize,
    /// Layers whose experts take turns, so that no cache has them.
    layers: usize,
    /// Parts of each expert of a call.
    loads: Vec<Vec<usize>>,
}

/// Falling by exp(-3) from the most to the least loaded.
fn skewed(experts: usize, parts: usize) -> Vec<usize> {
    let weights: Vec<f64> = (0..experts).map(|i| (-3.0 * i as f64 / (experts - 1) as f64).exp()).collect();
    let sum: f64 = weights.iter().sum();
    weights.iter().map(|weight| ((weight / sum * parts as f64).round() as usize).max(1)).collect()
}

fn shapes() -> [Shape; 3] {
    let alone = |counts: &[usize]| -> Vec<Vec<usize>> { counts.iter().map(|count| vec![*count]).collect() };
    let mixtral = [
        alone(&[1, 4, 8, 16, 32, 64, 80, 96, 128, 256]),
        [8, 16, 32, 48, 64, 96].map(|count| vec![count; 4]).to_vec(),
        vec![
            vec![98, 64, 38, 38, 38],
            vec![196, 25, 25, 25],
            vec![100, 40, 20, 20],
            vec![70, 40, 20, 20],
            vec![30, 16, 10, 8],
            vec![20, 5, 5, 5],
            vec![120, 80, 60, 40, 30, 20],
        ],
    ];
    let olmoe = [
        alone(&[1, 8, 16, 32, 64, 128, 256]),
        [1, 2, 4, 8, 16, 32, 64].map(|count| vec![count; 32]).to_vec(),
        [64, 128, 256, 512, 1024, 2048].map(|parts| skewed(32, parts)).to_vec(),
    ];
    let small = [
        alone(&[1, 8, 16, 32, 64, 128, 256]),
        vec![vec![8; 2], vec![32; 2], vec![64; 2], vec![100, 20], vec![200, 40], vec![160; 2]],
    ];
    [
        Shape {
            name: "mixtral-8x7b",
            hidden: 4096,
            width: 14_336,
            experts: 8,
            layers: 1,
            loads: mixtral.concat(),
        },
        Shape {
            name: "olmoe-1b-7b",
            hidden: 2048,
            width: 1024,
            experts: 64,
            layers: 2,
            loads: olmoe.concat(),
        },
        Shape { name: "smollm2", hidden: 576, width: 1536, experts: 4, layers: 8, loads: small.concat() },
    ]
}

pub fn measure(device: &Arc<Device>) -> Result<(), CudaError> {
    println!("shape,parts,product,tiles,blocks,microseconds,floor_microseconds");
    shapes().iter().try_for_each(|shape| of_shape(device, shape))
}

/// Gate, up and down.
type Layer = [Matrix; 3];

fn layer(device: &Arc<Device>, shape: &Shape) -> Result<Layer, CudaError> {
    let Shape { hidden, width, experts, .. } = *shape;
    let matrix = |rows, inputs| matrix(device, experts, rows, inputs);
    Ok([matrix(width, hidden)?, matrix(width, hidden)?, matrix(hidden, width)?])
}

fn of_shape(device: &Arc<Device>, shape: &Shape) -> Result<(), CudaError> {
    let Shape { name, hidden, width, .. } = *shape;
    let layers =
        (0..shape.layers).map(|_| layer(device, shape)).collect::<Result<Vec<Layer>, CudaError>>()?;
    for load in &shape.loads {
        let parts: usize = load.iter().sum();
        let random = |count| random(device, count);
        let (x, middle, out) = (random(parts * hidden)?, random(parts * width)?, random(parts * hidden)?);
        let index = Buffer::from_slice(device, &(0..parts as u32).collect::<Vec<_>>())?;
        for size in [TileSize::Few, TileSize::Some, TileSize::Many] {
            // Experts that had no turn lately are next.
            let turns = (0..shape.experts)
                .map(|turn| {
                    Buffer::from_slice(
                        device,
                        &of_experts(load, size, turn * load.len() % shape.experts, shape.experts),
                    )
                })
                .collect::<Result<Vec<_>, CudaError>>()?;
            let most = of_experts(load, size, 0, shape.experts).len();
            let count = Buffer::from_slice(device, &[most as u32])?;
            for blocks in Blocks::ALL {
                for (product, matrices) in [("gate and up", 2.0), ("down", 1.0)] {
                    let call = |round: usize| {
                        let tiles = Tiles {
                            size,
                            tiles: turns[round % shape.experts].view(),
                            count: count.view(),
                            most,
                        };
                        let [gate, up, down] = &layers[round / shape.experts % shape.layers];
                        let product = if matrices > 1.0 {
                            Product {
                                weights: gate,
                                x: x.view(),
                                rows: Some(index.view()),
                                tiles: Some(tiles),
                                bias: None,
                                out: Outcome::Gated { second: up, out: middle.view() },
                                pitch: width,
                                tokens: parts,
                            }
                        } else {
                            Product {
                                weights: down,
                                x: middle.view(),
                                rows: None,
                                tiles: Some(tiles),
                                bias: None,
                                out: Outcome::Round(out.view()),
                                pitch: hidden,
                                tokens: parts,
                            }
                        };
                        multiply_in(device, &product, blocks)
                    };
                    let us = 1e6 * median(device, call)?;
                    let floor = 1e6 * matrices * 2.0 * (load.len() * hidden * width) as f64 / BANDWIDTH;
                    let text = load.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
                    println!("{name},{text},{product},{size:?},{blocks:?},{us:.2},{floor:.2}");
                }
            }
        }
    }
    Ok(())
}

/// Of experts from this one on.
fn of_experts(load: &[usize], size: TileSize, first: usize, experts: usize) -> Vec<[u32; 4]> {
    let expert = |at: usize| ((first + at) % experts) as u32;
    tiles(load.iter().enumerate().map(|(at, parts)| (expert(at), *parts)), size)
}
