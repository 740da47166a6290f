//! Activations in the form that a matrix multiplies.
//!
//! Rows are cut into tiles of up to [`TILE`] rows. A tile holds its rows interleaved block by block, so that a kernel reads all rows of a
//! block from one place.

use std::ops::Range;

use super::interleave::INTERLEAVE;
use super::level::Level;
use super::quantise::{quantise_q8, quantise_q8k};
use super::shared::Shared;
use crate::pool::{Pool, share};

/// Rows that a kernel computes at once, at most.
pub(super) const TILE: usize = 8;

/// From this many values on, `fill` uses all threads.
const PARALLEL: usize = 8 * 1024;

/// How a matrix wants its activations.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum InputForm {
    /// As they are: for F32, F16 and BF16 weights.
    F32,
    /// 8-bit integers in blocks of 32 with scale and sum: for Q4_0, Q4_1, Q5_0, Q5_1 and Q8_0 weights.
    Q8,
    /// 8-bit integers in blocks of 256 with a scale and sums of 16: for K-quants.
    Q8K,
}

impl InputForm {
    pub(super) fn block(self) -> usize {
        match self {
            Self::F32 => 1,
            Self::Q8 => 32,
            Self::Q8K => 256,
        }
    }
}

/// Activations of some rows; a reusable buffer.
#[derive(Debug)]
pub struct Input {
    level: Level,
    form: InputForm,
    rows: usize,
    inputs: usize,
    /// The rows of each tile.
    tiles: Vec<Range<usize>>,
    /// The tiles of each group of rows.
    groups: Vec<Range<usize>>,
    /// F32: `[tile][input][row]`.
    values: Vec<f32>,
    /// Q8, Q8K: `[tile][block][row][32 or 256]`.
    codes: Vec<i8>,
    /// Q8, Q8K: `[tile][block][row]`.
    scales: Vec<f32>,
    /// Q8: `[tile][block][row]`, scale times sum of the codes, rounded to f16.
    sums: Vec<f32>,
    /// Q8: `[tile][block][row]`, -8 times the sum of the codes. Q8K: `[tile][block][row][16]`, -32 times the sums of 16 codes. The factors
    /// are offsets of formats: these are initial values of dot products.
    totals: Vec<i32>,
    /// Q8K: `[tile][block][row][8]`, sums of 32 codes in the order of [`PAIRS`].
    pairs: Vec<i16>,
}

/// The order of the sums of 32: neighbours are the parts whose 6-bit mins lie two bytes apart.
pub(super) const PAIRS: [usize; 8] = [0, 2, 1, 3, 4, 6, 5, 7];

/// Some rows of an [`Input`].
#[derive(Clone, Copy, Debug)]
pub(super) struct Tile<'a> {
    pub first: usize,
    pub rows: usize,
    pub blocks: usize,
    pub values: &'a [f32],
    pub codes: &'a [i8],
    pub scales: &'a [f32],
    pub sums: &'a [f32],
    pub totals: &'a [i32],
    pub pairs: &'a [i16],
    /// Weights that are wanted next: a kernel may fetch them while it computes.
    pub next: &'a [u8],
}

impl Tile<'_> {
    /// Asserts that the parts have the sizes that kernels read.
    pub fn check(&self, form: InputForm) {
        let each = self.rows * self.blocks;
        let sizes =
            [self.values.len(), self.codes.len(), self.scales.len(), self.sums.len(), self.totals.len()];
        let expected = match form {
            InputForm::F32 => [each, 0, 0, 0, 0],
            InputForm::Q8 => [0, each * 32, each, each, each],
            InputForm::Q8K => [0, each * 256, each, 0, each * 16],
        };
        assert!(
            sizes == expected && (form != InputForm::Q8K || self.pairs.len() == each * 8),
            "a tile of {form:?}"
        );
    }
}

impl Default for Input {
    fn default() -> Self {
        Self::new()
    }
}

impl Input {
    /// An empty buffer.
    pub fn new() -> Self {
        Self::at(Level::detected())
    }

    /// A buffer whose products are computed at a level that the CPU has.
    pub(super) fn at(level: Level) -> Self {
        Self {
            level,
            form: InputForm::F32,
            rows: 0,
            inputs: 0,
            tiles: Vec::new(),
            groups: Vec::new(),
            values: Vec::new(),
            codes: Vec::new(),
            scales: Vec::new(),
            sums: Vec::new(),
            totals: Vec::new(),
            pairs: Vec::new(),
        }
    }

    /// Takes `rows`, `[M, inputs]`, in the given form, in place of what the buffer held.
    ///
    /// # Panics
    /// If `rows` is not made of whole rows, or `inputs` not of whole blocks.
    pub fn fill(&mut self, pool: &Pool, form: InputForm, rows: &[f32], inputs: usize) {
        self.fill_groups(pool, form, rows, inputs, [rows.len().checked_div(inputs).unwrap_or(0)]);
    }

    /// As [`Self::fill`], for rows that come in groups, each of which meets a matrix of its own. `groups`: how many rows each has.
    ///
    /// # Panics
    /// As [`Self::fill`], or if the groups are not all rows.
    pub fn fill_groups(
        &mut self,
        pool: &Pool,
        form: InputForm,
        rows: &[f32],
        inputs: usize,
        groups: impl IntoIterator<Item = usize>,
    ) {
        assert!(inputs > 0 && rows.len().is_multiple_of(inputs), "{} values in rows of {inputs}", rows.len());
        let block = form.block();
        assert!(inputs.is_multiple_of(block), "rows of {inputs} inputs in blocks of {block}");
        self.form = form;
        self.rows = rows.len() / inputs;
        self.inputs = inputs;
        self.cut(groups);
        let blocks = rows.len() / block;
        match form {
            InputForm::F32 => grow(&mut self.values, blocks),
            InputForm::Q8 => grow(&mut self.totals, blocks),
            InputForm::Q8K => {
                grow(&mut self.totals, blocks * 16);
                grow(&mut self.pairs, blocks * 8);
            }
        }
        if form != InputForm::F32 {
            grow(&mut self.codes, rows.len());
            grow(&mut self.scales, blocks);
            grow(&mut self.sums, blocks);
        }
        let target = Target {
            level: self.level,
            form,
            inputs,
            values: Shared::new(&mut self.values),
            codes: Shared::new(&mut self.codes),
            scales: Shared::new(&mut self.scales),
            sums: Shared::new(&mut self.sums),
            totals: Shared::new(&mut self.totals),
            pairs: Shared::new(&mut self.pairs),
        };
        let tiles = &self.tiles;
        let job = |index: usize, threads: usize| {
            for tile in &tiles[share(tiles.len(), 1, index, threads)] {
                target.fill(tile.clone(), rows);
            }
        };
        if rows.len() < PARALLEL || tiles.len() == 1 {
            job(0, 1);
        } else {
            pool.run(&|index| job(index, pool.threads()));
        }
    }

    /// Rows that the buffer holds.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Inputs of each row.
    pub fn inputs(&self) -> usize {
        self.inputs
    }

    /// The form that the rows are in.
    pub fn form(&self) -> InputForm {
        self.form
    }

    pub(super) fn level(&self) -> Level {
        self.level
    }

    /// Rows that each group has, and its tiles.
    pub(super) fn group(&self, group: usize) -> (usize, Range<usize>) {
        let tiles = self.groups[group].clone();
        (self.tiles[tiles.clone()].iter().map(Range::len).sum(), tiles)
    }

    pub(super) fn groups(&self) -> usize {
        self.groups.len()
    }

    /// Cuts the groups into tiles of nearly equal size: a last tile of one row would cost as much unpacking as a full one.
    fn cut(&mut self, groups: impl IntoIterator<Item = usize>) {
        self.tiles.clear();
        self.groups.clear();
        let mut begin = 0;
        for rows in groups {
            let (first, count) = (self.tiles.len(), rows.div_ceil(TILE));
            for tile in 0..count {
                let tile = share(rows, 1, tile, count);
                self.tiles.push(begin + tile.start..begin + tile.end);
            }
            self.groups.push(first..first + count);
            begin += rows;
        }
        assert_eq!(begin, self.rows, "rows of all groups");
    }

    pub(super) fn tile(&self, tile: usize) -> Tile<'_> {
        let rows = self.tiles[tile].clone();
        let blocks = self.inputs / self.form.block();
        let part = |each: usize| rows.start * blocks * each..rows.end * blocks * each;
        let mut tile = Tile {
            first: rows.start,
            rows: rows.len(),
            blocks,
            values: &[],
            codes: &[],
            scales: &[],
            sums: &[],
            totals: &[],
            pairs: &[],
            next: &[],
        };
        match self.form {
            InputForm::F32 => tile.values = &self.values[part(1)],
            InputForm::Q8 => {
                tile.codes = &self.codes[part(32)];
                tile.sums = &self.sums[part(1)];
                tile.totals = &self.totals[part(1)];
                tile.scales = &self.scales[part(1)];
            }
            InputForm::Q8K => {
                tile.codes = &self.codes[part(256)];
                tile.totals = &self.totals[part(16)];
                tile.pairs = &self.pairs[part(8)];
                tile.scales = &self.scales[part(1)];
            }
        }
        tile
    }
}

/// The buffers of an [`Input`] while its tiles are filled.
struct Target<'a> {
    level: Level,
    form: InputForm,
    inputs: usize,
    values: Shared<'a, f32>,
    codes: Shared<'a, i8>,
    scales: Shared<'a, f32>,
    sums: Shared<'a, f32>,
    totals: Shared<'a, i32>,
    pairs: Shared<'a, i16>,
}

impl Target<'_> {
    fn fill(&self, tile: Range<usize>, rows: &[f32]) {
        let count = tile.len();
        let block = self.form.block();
        let blocks = self.inputs / block;
        let part = |each: usize| tile.start * blocks * each..tile.end * blocks * each;
        let row = |index: usize| &rows[(tile.start + index) * self.inputs..][..self.inputs];
        if self.form == InputForm::F32 {
            // SAFETY: the parts of tiles are disjoint, and each tile is filled by one thread.
            let values = unsafe { self.values.part(part(1)) };
            let rows = &rows[tile.start * self.inputs..tile.end * self.inputs];
            INTERLEAVE[count - 1](rows, values);
            return;
        }
        let wide = if self.form == InputForm::Q8K { 16 } else { 1 };
        // SAFETY: as above.
        let (codes, scales, sums, totals, pairs) = unsafe {
            (
                self.codes.part(part(block)),
                self.scales.part(part(1)),
                self.sums.part(part(1)),
                self.totals.part(part(wide)),
                self.pairs.part(if wide == 1 { 0..0 } else { part(8) }),
            )
        };
        for index in 0..count {
            if wide == 1 {
                for (at, values) in row(index).as_chunks().0.iter().enumerate() {
                    let at = at * count + index;
                    let codes = &mut codes.as_chunks_mut().0[at];
                    let (scale, sum, total) = quantise_q8(self.level, values, codes);
                    (scales[at], sums[at], totals[at]) = (scale, sum, -8 * total);
                }
                continue;
            }
            for (at, values) in row(index).as_chunks().0.iter().enumerate() {
                let at = at * count + index;
                let totals = &mut totals.as_chunks_mut().0[at];
                scales[at] = quantise_q8k(self.level, values, &mut codes.as_chunks_mut().0[at], totals);
                for (pair, part) in pairs[at * 8..(at + 1) * 8].iter_mut().zip(PAIRS) {
                    *pair = (totals[2 * part] + totals[2 * part + 1]) as i16;
                }
                for total in totals {
                    *total *= -32;
                }
            }
        }
    }
}

/// Room for `length` values, whatever they are: shrinking and growing again would write zeros each time.
fn grow<T: Clone + Default>(buffer: &mut Vec<T>, length: usize) {
    if buffer.len() < length {
        buffer.resize(length, T::default());
    }
}
