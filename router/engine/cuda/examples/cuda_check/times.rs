//! Times of kernels at the shapes of OLMoE-1B-7B and Qwen3-30B-A3B, beside the least time that bytes or operations take.

use std::sync::Arc;

use half::{bf16, f16};
use reprise_cuda::{
    BLOCK_TOKENS, Buffer, CHUNK_TOKENS, CudaError, Device, Timer,
    ops::{
        Attention, Grouping, Join, Matrix, Norm, Outcome, PrefillTile, Product, Rotation, Routing, TileSize,
        Tiles, argmax, attention_decode, attention_prefill, fill_random, join, multiply, rms_norm, rotate,
        route,
    },
    weights::Form,
};

use crate::check::Random;

/// An H100's memory, bytes a second, and its bf16 tensor cores, operations a second.
pub const BANDWIDTH: f64 = 3.35e12;
const OPERATIONS: f64 = 790e12;

struct Shape {
    name: &'static str,
    hidden: usize,
    heads: usize,
    kv_heads: usize,
    experts: usize,
    width: usize,
    vocabulary: usize,
}

const SHAPES: [Shape; 2] = [
    Shape {
        name: "olmoe-1b-7b",
        hidden: 2048,
        heads: 16,
        kv_heads: 16,
        experts: 64,
        width: 1024,
        vocabulary: 50_304,
    },
    Shape {
        name: "qwen3-30b-a3b",
        hidden: 2048,
        heads: 32,
        kv_heads: 4,
        experts: 128,
        width: 768,
        vocabulary: 151_936,
    },
];
const TOP_K: usize = 8;
const HEAD_DIM: usize = 128;
const CONTEXT: usize = 1024;

pub fn measure(device: &Arc<Device>) -> Result<(), CudaError> {
    println!("shape,kernel,rows,microseconds,floor_microseconds,over_floor");
    for shape in &SHAPES {
        let bench = Bench { device, shape };
        for rows in [1, 8, 32, 64, 128] {
            bench.step(rows)?;
        }
        bench.prefill(2048)?;
    }
    Ok(())
}

/// Seconds: the median of rounds of calls; `work` gets the number of the call, so that it can change its inputs.
pub fn median(
    device: &Arc<Device>,
    mut work: impl FnMut(usize) -> Result<(), CudaError>,
) -> Result<f64, CudaError> {
    work(0)?;
    let repeats = 4;
    let mut times = Vec::new();
    for round in 0..7 {
        let timer = Timer::start(device)?;
        for i in 0..repeats {
            work(round * repeats + i)?;
        }
        times.push(timer.stop()? / repeats as f64);
    }
    times.sort_by(f64::total_cmp);
    Ok(times[times.len() / 2])
}

pub fn matrix(device: &Arc<Device>, groups: usize, rows: usize, inputs: usize) -> Result<Matrix, CudaError> {
    let matrix = Matrix::new(device, Form::Bf16, groups, rows, inputs)?;
    fill_random(device, matrix.codes().cast()?, rows as u64, 0.05)?;
    Ok(matrix)
}

pub fn random(device: &Arc<Device>, count: usize) -> Result<Buffer<bf16>, CudaError> {
    let buffer = Buffer::new(device, count)?;
    fill_random(device, buffer.view(), count as u64, 1.0)?;
    Ok(buffer)
}

struct Bench<'a> {
    device: &'a Arc<Device>,
    shape: &'a Shape,
}

impl Bench<'_> {
    fn time(
        &self,
        kernel: &str,
        rows: usize,
        bytes: f64,
        operations: f64,
        work: impl FnMut(usize) -> Result<(), CudaError>,
    ) -> Result<(), CudaError> {
        let floor = (bytes / BANDWIDTH).max(operations / OPERATIONS);
        let median = median(self.device, work)?;
        let (name, micro) = (self.shape.name, 1e6);
        println!("{name},{kernel},{rows},{:.2},{:.2},{:.2}", median * micro, floor * micro, median / floor);
        Ok(())
    }

    fn step(&self, rows: usize) -> Result<(), CudaError> {
        self.dense(rows)?;
        self.experts(rows)?;
        self.decode(rows)
    }

    fn prefill(&self, rows: usize) -> Result<(), CudaError> {
        self.dense(rows)?;
        self.experts(rows)?;
        self.prefill_attention(rows)
    }

    fn dense(&self, rows: usize) -> Result<(), CudaError> {
        let Shape { hidden, heads, kv_heads, vocabulary, .. } = *self.shape;
        let (q, qkv) = (heads * HEAD_DIM, (heads + 2 * kv_heads) * HEAD_DIM);
        let kinds = [
            ("qkv product", qkv, hidden, 8),
            ("output product", hidden, q, 8),
            ("head product", vocabulary, hidden, 1),
        ];
        for (name, outputs, inputs, copies) in kinds {
            // Several, so that the cache does not hold them.
            let matrices = (0..copies)
                .map(|_| matrix(self.device, 1, outputs, inputs))
                .collect::<Result<Vec<_>, _>>()?;
            let rows = if name == "head product" { rows.min(128) } else { rows };
            let x = random(self.device, rows * inputs)?;
            let out = Buffer::<f32>::new(self.device, rows * outputs)?;
            // As a step has them: projections in f16, the output of attention added, logits in f32.
            let (outcome, written) = match name {
                "qkv product" => (Outcome::Half(out.view().cast()?), 2.0),
                "output product" => (Outcome::Add(out.view()), 8.0),
                _ => (Outcome::Replace(out.view()), 4.0),
            };
            let bytes = 2.0 * (outputs * inputs + rows * inputs) as f64 + written * (rows * outputs) as f64;
            let operations = 2.0 * (rows * outputs * inputs) as f64;
            self.time(name, rows, bytes, operations, |round| {
                multiply(
                    self.device,
                    &Product {
                        weights: &matrices[round % copies],
                        x: x.view(),
                        rows: None,
                        tiles: None,
                        bias: None,
                        out: outcome,
                        pitch: outputs,
                        tokens: rows,
                    },
                )
            })?;
        }
        let x = Buffer::<f32>::new(self.device, rows * hidden)?;
        let weight = Buffer::from_slice(self.device, &vec![1.0f32; hidden])?;
        let out = Buffer::<bf16>::new(self.device, rows * hidden)?;
        self.time("norm", rows, 6.0 * (rows * hidden) as f64, 0.0, |_| {
            let (x, weight, out) = (x.view(), weight.view(), out.view());
            rms_norm(self.device, &Norm { x, index: None, weight, out, rows, eps: 1e-5 })
        })?;
        let logits_rows = rows.min(128);
        let logits = Buffer::from_slice(self.device, &Random::new(1).numbers(logits_rows * vocabulary, 9.0))?;
        let chosen = Buffer::<[u32; 4]>::new(self.device, logits_rows)?;
        self.time("choice of tokens", logits_rows, 4.0 * (logits_rows * vocabulary) as f64, 0.0, |_| {
            argmax(self.device, logits.view(), vocabulary, logits_rows, chosen.view())
        })
    }

    fn experts(&self, rows: usize) -> Result<(), CudaError> {
        let Shape { hidden, experts, width, .. } = *self.shape;
        let parts = rows * TOP_K;
        let (gate, up) =
            (matrix(self.device, experts, width, hidden)?, matrix(self.device, experts, width, hidden)?);
        let down = matrix(self.device, experts, hidden, width)?;
        let logits = Buffer::from_slice(self.device, &Random::new(2).numbers(rows * experts, 2.0))?;
        let (chosen, weights) =
            (Buffer::<u32>::new(self.device, parts)?, Buffer::<f32>::new(self.device, parts)?);
        let (part_of, row_of) =
            (Buffer::<u32>::new(self.device, parts)?, Buffer::<u32>::new(self.device, parts)?);
        let size = TileSize::for_groups(parts, experts);
        let most = size.most(parts, experts);
        let (tiles, tile_count) =
            (Buffer::<[u32; 4]>::new(self.device, most)?, Buffer::<u32>::new(self.device, 1)?);
        let count = Buffer::from_slice(self.device, &[rows as u32])?;
        let tiles = Tiles { size, tiles: tiles.view(), count: tile_count.view(), most };
        let grouping = Grouping {
            part_of: part_of.view(),
            row_of: row_of.view(),
            tiles,
            count: count.view(),
            rows,
            experts,
            top_k: TOP_K,
        };
        self.time("routing", rows, 4.0 * (rows * experts) as f64, 0.0, |_| {
            let routing = Routing {
                logits: logits.view(),
                chosen: chosen.view(),
                weights: weights.view(),
                renormalise: true,
            };
            route(self.device, &routing, &grouping)
        })?;
        let mut seen: Vec<u32> = chosen.to_vec()?;
        seen.sort_unstable();
        seen.dedup();
        let x = random(self.device, rows * hidden)?;
        let middle = Buffer::<bf16>::new(self.device, parts * width)?;
        let out = Buffer::<bf16>::new(self.device, parts * hidden)?;
        let matrix_bytes = 2.0 * (seen.len() * width * hidden) as f64;
        let operations = 2.0 * (parts * width * hidden) as f64;
        let bytes = 2.0 * matrix_bytes + 2.0 * (rows * hidden + parts * width) as f64;
        self.time("experts' gate and up", rows, bytes, 2.0 * operations, |_| {
            multiply(
                self.device,
                &Product {
                    weights: &gate,
                    x: x.view(),
                    rows: Some(row_of.view()),
                    tiles: Some(tiles),
                    bias: None,
                    out: Outcome::Gated { second: &up, out: middle.view() },
                    pitch: width,
                    tokens: parts,
                },
            )
        })?;
        let bytes = matrix_bytes + 2.0 * (parts * width + parts * hidden) as f64;
        self.time("experts' down", rows, bytes, operations, |_| {
            multiply(
                self.device,
                &Product {
                    weights: &down,
                    x: middle.view(),
                    rows: None,
                    tiles: Some(tiles),
                    bias: None,
                    out: Outcome::Round(out.view()),
                    pitch: hidden,
                    tokens: parts,
                },
            )
        })?;
        let state = Buffer::<f32>::new(self.device, rows * hidden)?;
        let norm = Buffer::from_slice(self.device, &vec![1.0f32; hidden])?;
        let bytes = 2.0 * (parts * hidden) as f64 + 10.0 * (rows * hidden) as f64;
        self.time("join and norm", rows, bytes, 0.0, |_| {
            join(
                self.device,
                &Join {
                    x: state.view(),
                    index: None,
                    parts: out.view(),
                    part_of: part_of.view(),
                    weights: weights.view(),
                    shared: None,
                    norm: Some((norm.view(), x.view())),
                    count: count.view(),
                    rows,
                    hidden,
                    top_k: TOP_K,
                    renormalised: true,
                    eps: 1e-5,
                },
            )
        })
    }

    fn decode(&self, rows: usize) -> Result<(), CudaError> {
        let position = vec![CONTEXT as i32 - 1; rows];
        let blocks_each = CONTEXT / BLOCK_TOKENS;
        let starts: Vec<u32> = (0..rows).map(|row| (row * blocks_each) as u32).collect();
        let chunks = CONTEXT / CHUNK_TOKENS;
        self.with_attention(rows, &position, &starts, rows * blocks_each, |attention, keys| {
            let Shape { heads, kv_heads, .. } = *self.shape;
            let parts = Buffer::<f32>::new(self.device, rows * heads * chunks * HEAD_DIM)?;
            let sums = Buffer::<[f32; 2]>::new(self.device, rows * heads * chunks)?;
            let bytes = 4.0 * (rows * CONTEXT * kv_heads * HEAD_DIM) as f64;
            self.time("attention, decode", rows, bytes, 0.0, |round| {
                // Several, so that the cache does not hold them.
                let keys = &keys[round % keys.len()];
                let attention = Attention { keys: keys.0.view(), values: keys.1.view(), ..attention };
                attention_decode(self.device, &attention, chunks, parts.view(), sums.view())
            })
        })
    }

    fn prefill_attention(&self, rows: usize) -> Result<(), CudaError> {
        let positions: Vec<i32> = (0..rows as i32).collect();
        let starts = vec![0; rows];
        self.with_attention(rows, &positions, &starts, rows / BLOCK_TOKENS, |attention, keys| {
            let Shape { heads, kv_heads, .. } = *self.shape;
            let most = PrefillTile::most(heads / kv_heads);
            let tile = |first: usize| {
                PrefillTile { first: first as u32, count: most.min(rows - first) as u32 }.raw()
            };
            let tiles: Vec<[u32; 4]> = (0..rows).step_by(most).map(tile).collect();
            let tiles = Buffer::from_slice(self.device, &tiles)?;
            let bytes = 4.0 * (rows * (heads + kv_heads) * HEAD_DIM) as f64;
            let operations = 2.0 * (rows * rows * heads * HEAD_DIM) as f64;
            self.time("attention, prefill", rows, bytes, operations, |_| {
                let attention = Attention { keys: keys[0].0.view(), values: keys[0].1.view(), ..attention };
                attention_prefill(self.device, &attention, tiles.view(), tiles.len())
            })
        })
    }

    fn with_attention(
        &self,
        rows: usize,
        positions: &[i32],
        starts: &[u32],
        blocks: usize,
        work: impl FnOnce(Attention<'_>, &[(Buffer<f16>, Buffer<f16>)]) -> Result<(), CudaError>,
    ) -> Result<(), CudaError> {
        let Shape { heads, kv_heads, .. } = *self.shape;
        let size = blocks * kv_heads * HEAD_DIM * BLOCK_TOKENS;
        let copies = (200_000_000 / (4 * size)).clamp(1, 8);
        let kv = (0..copies)
            .map(|_| {
                // Halves of small random bf16 are small halves.
                let (keys, values) =
                    (Buffer::<f16>::new(self.device, size)?, Buffer::<f16>::new(self.device, size)?);
                for half in [&keys, &values] {
                    fill_random(self.device, half.view().cast()?, 3, 1e-3)?;
                }
                Ok((keys, values))
            })
            .collect::<Result<Vec<_>, CudaError>>()?;
        let q = Buffer::<f16>::new(self.device, rows * heads * HEAD_DIM)?;
        fill_random(self.device, q.view().cast()?, 4, 1e-3)?;
        let qkv = Buffer::<f16>::new(self.device, rows * (heads + 2 * kv_heads) * HEAD_DIM)?;
        let turns = Buffer::<[f32; 2]>::new(self.device, 4096 * HEAD_DIM / 2)?;
        let norm = Buffer::from_slice(self.device, &[1.0f32; HEAD_DIM])?;
        let out = Buffer::<bf16>::new(self.device, rows * heads * HEAD_DIM)?;
        let positions = Buffer::from_slice(self.device, positions)?;
        let starts = Buffer::from_slice(self.device, starts)?;
        let tables = Buffer::from_slice(self.device, &(0..blocks as u32).collect::<Vec<_>>())?;
        let attention = Attention {
            q: q.view(),
            keys: kv[0].0.view(),
            values: kv[0].1.view(),
            positions: positions.view(),
            table_of: starts.view(),
            tables: tables.view(),
            out: out.view(),
            heads,
            kv_heads,
            head_dim: HEAD_DIM,
            tokens: rows,
        };
        let bytes = 4.0 * (rows * (heads + 2 * kv_heads) * HEAD_DIM) as f64;
        let (keys, values) = (Buffer::<f16>::new(self.device, size)?, Buffer::<f16>::new(self.device, size)?);
        let scratch = Buffer::<f16>::new(self.device, rows * heads * HEAD_DIM)?;
        self.time("rotation and KV", rows, bytes, 0.0, |_| {
            rotate(
                self.device,
                &Rotation {
                    qkv: qkv.view(),
                    norms: Some((norm.view(), norm.view())),
                    turns: turns.view(),
                    positions: positions.view(),
                    table_of: starts.view(),
                    tables: tables.view(),
                    q: scratch.view(),
                    keys: keys.view(),
                    values: values.view(),
                    heads,
                    kv_heads,
                    head_dim: HEAD_DIM,
                    interleaved: false,
                    eps: 1e-6,
                    scale: 0.1,
                    rows,
                },
            )
        })?;
        work(attention, &kv)
    }
}
