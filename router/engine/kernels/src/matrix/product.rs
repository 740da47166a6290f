//! Products of activations with matrices, divided between the threads of a pool in whole panels.
//!
//! Threads take chunks of panels from a counter as they come: where another process takes a core for a while, the other threads do the rest.
//! Which thread computes a panel changes nothing in it. In f32, a thread takes its next chunk before it computes one, to fetch the weights.

use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::format::LANES;
use super::input::{Input, InputForm, TILE, Tile};
use super::level::Level;
use super::shared::Shared;
use super::{Matrix, portable};
#[cfg(target_arch = "x86_64")]
use super::{avx2, avx512};
use crate::{
    activation::{gelu, open},
    pool::Pool,
};

/// Weights that a thread takes at once are at least this many bytes...
const CHUNK_BYTES: usize = 16 * 1024;
/// ...and at most such a share of the whole for each thread.
const CHUNKS_PER_THREAD: usize = 8;
/// Weights that stay in the cache of a core while all rows pass over them.
const GROUP_BYTES: usize = 256 * 1024;

/// Bytes of a cache line.
const LINE: usize = 64;

/// What becomes of a product.
#[derive(Clone, Copy)]
pub(super) enum Then<'a> {
    Store,
    Add,
    Gelu,
    /// The product is a gate; the matrix gives what it opens.
    Gate(&'a Matrix),
}

/// `out[m, n] = sum_k input[m, k] matrix[n, k] (+ bias[n])` for each product; `out`: `[M, outputs]`.
/// All products are one parallel region.
///
/// # Panics
/// If a matrix takes another form or number of inputs, or an output has another size.
pub fn multiply(pool: &Pool, input: &Input, products: &mut [(&Matrix, &mut [f32])]) {
    let mut work = Vec::with_capacity(products.len());
    for (matrix, out) in products {
        work.push(Work::new(pool, input, matrix, out, Then::Store));
    }
    run(pool, input, &work);
}

/// `out[m, n] += sum_k input[m, k] matrix[n, k] (+ bias[n])`: a residual. `out`: `[M, outputs]`.
///
/// # Panics
/// As [`multiply`].
pub fn multiply_add(pool: &Pool, input: &Input, matrix: &Matrix, out: &mut [f32]) {
    run(pool, input, &[Work::new(pool, input, matrix, out, Then::Add)]);
}

/// `out[m, n] = gelu(product)`, bias included: `x/2 (1 + erf(x / sqrt 2))`. `out`: `[M, outputs]`.
///
/// # Panics
/// As [`multiply`].
pub fn multiply_gelu(pool: &Pool, input: &Input, matrix: &Matrix, out: &mut [f32]) {
    run(pool, input, &[Work::new(pool, input, matrix, out, Then::Gelu)]);
}

/// `out[m, n] = silu(gate product) * (up product)`, biases included. `out`: `[M, outputs]`.
///
/// # Panics
/// As [`multiply`], or if the two matrices have other shapes.
pub fn gate_up(pool: &Pool, input: &Input, gate: &Matrix, up: &Matrix, out: &mut [f32]) {
    check(input, up);
    assert_eq!(gate.outputs(), up.outputs(), "gate and up have the same outputs");
    run(pool, input, &[Work::new(pool, input, gate, out, Then::Gate(up))]);
}

pub(super) fn check(input: &Input, matrix: &Matrix) {
    assert_eq!(input.form(), matrix.input_form(), "form of the activations for {:?}", matrix.format());
    assert_eq!(input.inputs(), matrix.inputs(), "inputs of the activations and of the matrix");
}

pub(super) struct Work<'a> {
    matrix: &'a Matrix,
    /// Of all rows of the input.
    out: Shared<'a, f32>,
    then: Then<'a>,
    /// Of the input, those that meet this matrix.
    tiles: Range<usize>,
    /// Panels that a thread takes at once.
    chunk: usize,
}

impl<'a> Work<'a> {
    fn new(pool: &Pool, input: &Input, matrix: &'a Matrix, out: &'a mut [f32], then: Then<'a>) -> Self {
        assert_eq!(out.len(), input.rows() * matrix.outputs(), "rows x outputs of the product");
        assert_eq!(input.groups(), 1, "one matrix for all rows");
        Self::of_group(pool, input, 0, matrix, Shared::new(out), then)
    }

    /// `out` is that of all groups, and `matrix` has as many outputs as those of the other groups.
    pub(super) fn of_group(
        pool: &Pool,
        input: &Input,
        group: usize,
        matrix: &'a Matrix,
        out: Shared<'a, f32>,
        then: Then<'a>,
    ) -> Self {
        check(input, matrix);
        let (rows, tiles) = input.group(group);
        let fine = matrix.panels().div_ceil(pool.threads() * CHUNKS_PER_THREAD);
        let bytes = matrix.bytes() / matrix.panels() * rows.clamp(1, TILE);
        let chunk = match input.form() {
            InputForm::F32 => {
                fine.max(CHUNK_BYTES / bytes).next_multiple_of(at_once(input.form(), rows, MAX_PANELS))
            }
            _ => fine.max(CHUNK_BYTES / bytes),
        };
        Self { matrix, out, then, tiles, chunk }
    }

    fn chunks(&self) -> usize {
        self.matrix.panels().div_ceil(self.chunk)
    }
}

pub(super) fn run(pool: &Pool, input: &Input, work: &[Work<'_>]) {
    if input.rows() == 0 {
        return;
    }
    let next = AtomicUsize::new(0);
    let take = || {
        let mut chunk = next.fetch_add(1, Ordering::Relaxed);
        for work in work {
            if chunk < work.chunks() {
                let first = chunk * work.chunk;
                return Some((work, first..(first + work.chunk).min(work.matrix.panels())));
            }
            chunk -= work.chunks();
        }
        None
    };
    // One tile leaves no time to fetch in, and with many the wait of the first is little beside the last chunks' unequal ends.
    let early = input.form() == InputForm::F32 && (TILE + 1..=8 * TILE).contains(&input.rows());
    pool.run(&|_| {
        let mut chunk = take();
        while let Some((work, panels)) = chunk {
            let next = if early { take() } else { None };
            let weights =
                next.as_ref().map_or(&[][..], |(work, panels)| work.matrix.some_panels(panels.clone()));
            compute(input, work, panels, weights);
            chunk = if early { next } else { take() };
        }
    });
}

/// Groups of panels that fit the cache; in a group tile after tile of rows. `next`: weights of what this thread computes then.
fn compute(input: &Input, work: &Work<'_>, panels: Range<usize>, next: &[u8]) {
    let group = (GROUP_BYTES / work.matrix.panel_bytes()).next_multiple_of(MAX_PANELS);
    let mut sums: Sums = [[0.0; LANES]; TILE * 2];
    for first in panels.clone().step_by(group) {
        let end = (first + group).min(panels.end);
        let next =
            if end < panels.end { work.matrix.some_panels(end..(end + group).min(panels.end)) } else { next };
        let steps = work.tiles.len() * (end - first);
        for (index, tile) in work.tiles.clone().enumerate() {
            let mut tile = input.tile(tile);
            let mut at = first;
            while at < end {
                let count = at_once(input.form(), tile.rows, end - at);
                let step = index * (end - first) + at - first;
                tile.next = &next[part(next.len(), step, steps)..part(next.len(), step + count, steps)];
                compute_panels(input.level(), &tile, work, at..at + count, &mut sums);
                at += count;
            }
        }
    }
}

/// Where step `step` of `steps` begins, in whole cache lines.
fn part(bytes: usize, step: usize, steps: usize) -> usize {
    bytes / LINE * step / steps * LINE
}

/// Panels that a kernel computes at once, at most.
const MAX_PANELS: usize = 4;

/// Sums of f32 products are chains that wait for each other: a few rows need several panels to fill the pipeline.
fn at_once(form: InputForm, rows: usize, panels: usize) -> usize {
    match (form, rows, panels) {
        (InputForm::F32, ..=2, 4..) => 4,
        (InputForm::F32, _, 2..) => 2,
        _ => 1,
    }
}

type Sums = [[f32; LANES]; TILE * 2];

/// `sums` is room, whatever it holds.
fn compute_panels(level: Level, tile: &Tile<'_>, work: &Work<'_>, panels: Range<usize>, sums: &mut Sums) {
    let sums = &mut sums[..tile.rows * panels.len()];
    product(level, work.matrix, tile, panels.clone(), sums);
    if let Then::Gate(up) = work.then {
        let mut ups: Sums = [[0.0; LANES]; TILE * 2];
        let ups = &mut ups[..sums.len()];
        product(level, up, tile, panels.clone(), ups);
        open(sums.as_flattened_mut(), ups.as_flattened());
    }
    if let Then::Gelu = work.then {
        gelu(sums.as_flattened_mut());
    }
    let outputs = work.matrix.outputs();
    for (panel, sums) in panels.zip(sums.chunks_exact(tile.rows)) {
        let columns = panel * LANES..((panel + 1) * LANES).min(outputs);
        for (row, sums) in sums.iter().enumerate() {
            let start = (tile.first + row) * outputs;
            // SAFETY: each panel of a matrix is computed by one thread, and no other panel has these columns.
            let out = unsafe { work.out.part(start + columns.start..start + columns.end) };
            // Of a known length it is a move or an addition of registers.
            match (work.then, out.as_mut_array::<LANES>()) {
                (Then::Add, Some(out)) => add(out, sums),
                (Then::Add, None) => add(out, sums),
                (_, Some(out)) => *out = *sums,
                (_, None) => out.copy_from_slice(&sums[..out.len()]),
            }
        }
    }
}

#[inline(always)]
fn add(out: &mut [f32], sums: &[f32; LANES]) {
    for (out, sum) in out.iter_mut().zip(sums) {
        *out += sum;
    }
}

fn product(level: Level, matrix: &Matrix, tile: &Tile<'_>, panels: Range<usize>, sums: &mut [[f32; LANES]]) {
    let bytes = matrix.some_panels(panels.clone());
    match level {
        // SAFETY: the level was detected.
        #[cfg(target_arch = "x86_64")]
        Level::Avx512 => unsafe { avx512::panels(matrix.format, bytes, tile, sums) },
        // SAFETY: the level was detected.
        #[cfg(target_arch = "x86_64")]
        Level::Avx2 => unsafe { avx2::panels(matrix.format, bytes, tile, sums) },
        _ => portable::panels(matrix.format, bytes, tile, sums),
    }
    if let Some(bias) = &matrix.bias {
        for (panel, sums) in panels.zip(sums.chunks_exact_mut(tile.rows)) {
            let bias = &bias[panel * LANES..];
            // The last panel may be a part of one. Of a known length it is an addition of registers.
            let bias: [f32; LANES] = match bias.first_chunk() {
                Some(bias) => *bias,
                None => std::array::from_fn(|lane| bias.get(lane).copied().unwrap_or(0.0)),
            };
            for sum in sums {
                for (sum, bias) in sum.iter_mut().zip(bias) {
                    *sum += bias;
                }
            }
        }
    }
}
