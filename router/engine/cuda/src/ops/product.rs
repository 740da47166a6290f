use half::{bf16, f16};

use super::{
    Kernel, Module, address, grid, int, launch,
    matrix::{Matrix, RawWeights},
    room,
};
use crate::{CudaError, Device, View, compile::Source, weights::Form};

const TEXT: &str = include_str!("../kernels/gemm.cu");
const ON_HOPPER: &str = concat!(
    include_str!("../kernels/hopper.cuh"),
    include_str!("../kernels/gemm.cu"),
    include_str!("../kernels/gemm_hopper.cu")
);

/// How many tokens of a matrix share a tile of a product, at most. Results do not depend on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TileSize {
    Few,
    Some,
    Many,
}

impl TileSize {
    #[must_use]
    pub const fn tokens(self) -> usize {
        match self {
            Self::Few => 16,
            Self::Some => 64,
            Self::Many => 320,
        }
    }

    /// For `parts` tokens over `groups` matrices.
    #[must_use]
    pub const fn for_groups(parts: usize, groups: usize) -> Self {
        match parts / groups {
            0..=8 => Self::Few,
            9..=64 => Self::Some,
            _ => Self::Many,
        }
    }

    /// Those that `multiply` computes its tiles in.
    #[must_use]
    pub const fn blocks(self) -> Blocks {
        match self {
            Self::Few => Blocks::Few,
            Self::Some => Blocks::Some,
            Self::Many => Blocks::Many,
        }
    }

    /// The most tiles that `parts` tokens over `groups` matrices need.
    #[must_use]
    pub const fn most(self, parts: usize, groups: usize) -> usize {
        let begun = if parts < groups { parts } else { groups };
        begun + parts / self.tokens()
    }
}

/// Which tokens go to which matrix: what `group_parts` leaves. A tile is {matrix, first token, end, 0}, of [`TileSize::tokens`] at most.
#[derive(Debug, Clone, Copy)]
pub struct Tiles<'a> {
    pub size: TileSize,
    pub tiles: View<'a, [u32; 4]>,
    pub count: View<'a, u32>,
    /// The most that there may be.
    pub most: usize,
}

/// Where a product goes.
#[derive(Debug, Clone, Copy)]
pub enum Outcome<'a> {
    Replace(View<'a, f32>),
    Add(View<'a, f32>),
    /// Replaced, in bf16.
    Round(View<'a, bf16>),
    /// Replaced, in f16.
    Half(View<'a, f16>),
    /// `silu(x . weights) * (x . second)` in bf16.
    Gated {
        second: &'a Matrix,
        out: View<'a, bf16>,
    },
}

/// `out[t] = weights . x[t]`.
#[derive(Debug, Clone, Copy)]
pub struct Product<'a> {
    pub weights: &'a Matrix,
    /// [tokens, inputs]
    pub x: View<'a, bf16>,
    /// Which row of `x` is token `i`; none: row `i`.
    pub rows: Option<View<'a, u32>>,
    /// None: one matrix for all.
    pub tiles: Option<Tiles<'a>>,
    /// `[outputs]`
    pub bias: Option<View<'a, f32>>,
    pub out: Outcome<'a>,
    /// Elements from one token's output to the next.
    pub pitch: usize,
    /// With tiles: the most.
    pub tokens: usize,
}

#[repr(C)]
#[derive(Debug)]
struct Raw {
    first: RawWeights,
    second: RawWeights,
    group_codes: u64,
    group_scales: u64,
    x: u64,
    index: u64,
    tiles: u64,
    tile_count: u64,
    out: u64,
    bias: u64,
    rows: i32,
    k: i32,
    tokens: i32,
    group_shift: i32,
    out_pitch: i32,
    x_pitch: i32,
    how: i32,
    blocks_of_tile: i32,
    cluster_tokens: i32,
}

/// What else than to replace a product does with its outcome, as the kernels know it.
const ADD: i32 = 1;
const ROUND: i32 = 2;
const HALF: i32 = 3;

/// What a block of a product's kernel computes. Results do not depend on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Blocks {
    /// Few tokens and few rows.
    Narrow,
    /// Few tokens.
    Few,
    /// Some tokens and few rows.
    Slim,
    /// Some tokens.
    Some,
    /// Many tokens.
    Many,
}

impl Blocks {
    pub const ALL: [Self; 5] = [Self::Narrow, Self::Few, Self::Slim, Self::Some, Self::Many];

    /// Of one matrix with so many rows: as large as leaves each processor some.
    fn suited(rows: usize, tokens: usize, processors: usize) -> Self {
        let count = |Variant { rows: of_rows, tokens: of_tokens, .. }| {
            rows.div_ceil(of_rows) * tokens.div_ceil(of_tokens)
        };
        if tokens <= FEW.tokens {
            if count(FEW) >= 2 * processors { Self::Few } else { Self::Narrow }
        } else if tokens > SOME.tokens && count(MANY) >= processors {
            Self::Many
        } else if 2 * count(SOME) > processors {
            Self::Some
        } else {
            Self::Slim
        }
    }

    pub(super) const fn variant(self) -> Variant {
        VARIANTS[self as usize]
    }
}

/// Kernels of one form differ in their tile.
#[derive(Debug, Clone, Copy)]
pub(super) struct Variant {
    pub(super) rows: usize,
    pub(super) tokens: usize,
    threads: u32,
    stages: u32,
}

const NARROW: Variant = Variant { rows: 16, tokens: 16, threads: 32, stages: 16 };
const FEW: Variant = Variant { rows: 64, tokens: 16, threads: 128, stages: 10 };
const SLIM: Variant = Variant { rows: 16, tokens: 64, threads: 128, stages: 8 };
const SOME: Variant = Variant { rows: 64, tokens: 64, threads: 128, stages: 6 };
const MANY: Variant = Variant { rows: 128, tokens: 128, threads: 128, stages: 3 };
/// Instead of `MANY` for bf16 on Hopper: one of two blocks that share a tile.
pub(super) const MOST: Variant = Variant { rows: 256, tokens: 160, threads: 384, stages: 4 };
/// Tokens of two blocks without tiles.
const MOST_DENSE: [usize; 6] = [128, 160, 192, 240, 256, 320];
/// Bytes behind its stages: of barriers, and of the outcome of 16 tokens in f32, which is more than each warp's own of halves.
const MOST_BEHIND: u32 = 64 + 16 * (256 * 4 + 16);
const VARIANTS: [Variant; 5] = [NARROW, FEW, SLIM, SOME, MANY];

impl Variant {
    const fn shared(self, form: Form) -> u32 {
        let (codes, scales) = match form {
            Form::Bf16 => (128, 0),
            Form::Q4 => (32, 8),
            Form::Q8 { .. } => (64, 16),
        };
        (self.rows * (codes + scales) + self.tokens * 128) as u32 * self.stages
    }
}

/// As the kernels are named here, by form, gated or not, and variant.
const NAMES: [[[&str; 5]; 2]; 3] = [
    [
        ["bf16_narrow", "bf16_few", "bf16_slim", "bf16_some", "bf16_many"],
        ["bf16_gated_narrow", "bf16_gated_few", "bf16_gated_slim", "bf16_gated_some", "bf16_gated_many"],
    ],
    [
        ["q4_narrow", "q4_few", "q4_slim", "q4_some", "q4_many"],
        ["q4_gated_narrow", "q4_gated_few", "q4_gated_slim", "q4_gated_some", "q4_gated_many"],
    ],
    [
        ["q8_narrow", "q8_few", "q8_slim", "q8_some", "q8_many"],
        ["q8_gated_narrow", "q8_gated_few", "q8_gated_slim", "q8_gated_some", "q8_gated_many"],
    ],
];
const SYMBOLS: [[&str; 5]; 2] = [
    ["gemm_narrow", "gemm_few", "gemm_slim", "gemm_some", "gemm_many"],
    ["gated_narrow", "gated_few", "gated_slim", "gated_some", "gated_many"],
];

const fn index(form: Form) -> usize {
    match form {
        Form::Bf16 => 0,
        Form::Q4 => 1,
        Form::Q8 { .. } => 2,
    }
}

/// `hopper`: with the kernels that only it runs.
pub(super) fn modules(hopper: bool) -> Vec<Module> {
    // The stages of `NARROW` and so on.
    const DEFINES: [&[&str]; 3] = [
        &["FORMAT_OF_MODULE=BF16", "NARROW=16", "FEW=10", "SLIM=8", "SOME=6", "MANY=3"],
        &["FORMAT_OF_MODULE=Q4", "NARROW=16", "FEW=10", "SLIM=8", "SOME=6", "MANY=3"],
        &["FORMAT_OF_MODULE=Q8", "NARROW=16", "FEW=10", "SLIM=8", "SOME=6", "MANY=3"],
    ];
    let forms = [Form::Bf16, Form::Q4, Form::Q8 { shift: 5 }];
    forms
        .into_iter()
        .map(|form| {
            let at = index(form);
            let named = NAMES[at].iter().flatten().zip(SYMBOLS.iter().flatten()).zip(VARIANTS.iter().cycle());
            let mut kernels: Vec<Kernel> = named
                .map(|((name, symbol), variant)| Kernel { name, symbol, shared: variant.shared(form) })
                .collect();
            let mut text = TEXT;
            if hopper && form == Form::Bf16 {
                text = ON_HOPPER;
                let shared = MOST.shared(form) + MOST_BEHIND;
                kernels.push(Kernel { name: "bf16_most", symbol: "gemm_most", shared });
                kernels.push(Kernel { name: "bf16_gated_most", symbol: "gated_most", shared });
            }
            Module { source: Source { file: "gemm.cu", text, defines: DEFINES[at] }, kernels }
        })
        .collect()
}

/// Of a product without tiles: as few rounds of all clusters as possible, as short as possible. Writing the outcome of a block takes about
/// as long as the products of 40 tokens (measured on an H100).
fn cluster_tokens(rows: usize, tokens: usize, clusters: usize) -> usize {
    let time = |size: usize| {
        let items = rows.div_ceil(MOST.rows) * tokens.div_ceil(size);
        items.div_ceil(clusters.max(1)) * (size / 2 + 40)
    };
    MOST_DENSE.into_iter().min_by_key(|size| time(*size)).unwrap_or(2 * MOST.tokens)
}

/// # Errors
/// Shapes do not fit, or the launch failed.
pub fn multiply(device: &Device, product: &Product<'_>) -> Result<(), CudaError> {
    let rows = product.weights.rows * if matches!(product.out, Outcome::Gated { .. }) { 2 } else { 1 };
    let blocks = match product.tiles {
        Some(tiles) => tiles.size.blocks(),
        None => Blocks::suited(rows, product.tokens, device.multiprocessors() as usize),
    };
    multiply_in(device, product, blocks)
}

/// In blocks that the caller chose, as [`cut`](super::cut) does.
///
/// # Errors
/// Shapes do not fit, or the launch failed.
pub fn multiply_in(device: &Device, product: &Product<'_>, in_blocks: Blocks) -> Result<(), CudaError> {
    let Product { weights, x, rows: row_index, tiles, bias, out, pitch, tokens } = *product;
    let Matrix { form, rows, inputs, groups, .. } = *weights;
    if tokens == 0 || rows == 0 {
        return Ok(());
    }
    if !inputs.is_multiple_of(crate::weights::STEP) || (tiles.is_none() && groups != 1) {
        return Err(CudaError::Shape(format!("{groups} matrices of {inputs} inputs")));
    }
    match row_index {
        // Kernels look at it only behind the tiles.
        Some(_) if tiles.is_none() => return Err(CudaError::Shape("an index of rows without tiles".into())),
        Some(rows) => room("the index of a product", rows, tokens)?,
        None => room("x of a product", x, tokens * inputs)?,
    }
    let last = (tokens - 1) * pitch + rows;
    let (second, out, how) = match out {
        Outcome::Replace(out) => (None, out, 0),
        Outcome::Add(out) => (None, out, ADD),
        Outcome::Round(out) => {
            room("the outcome of a rounded product", out, last)?;
            (None, out.as_any(), ROUND)
        }
        Outcome::Half(out) => {
            room("the outcome of a rounded product", out, last)?;
            (None, out.as_any(), HALF)
        }
        Outcome::Gated { second, out } => {
            if (second.form, second.rows, second.inputs, second.groups) != (form, rows, inputs, groups)
                || !rows.is_multiple_of(8)
                || bias.is_some()
            {
                return Err(CudaError::Shape(format!("a gate of {rows} rows and an up that differs")));
            }
            room("the outcome of a gated product", out, last)?;
            (Some(second), out.as_any(), ROUND)
        }
    };
    let gated = second.is_some();
    if how < ROUND {
        room("the outcome of a product", out, last)?;
    }
    if let Some(bias) = bias {
        room("a bias", bias, rows)?;
    }
    let rows = if gated { 2 * rows } else { rows };
    let processors = device.multiprocessors() as usize;
    let at = in_blocks as usize;
    let token_tiles = match tiles {
        Some(tiles) => {
            room("tiles", tiles.tiles, tiles.most)?;
            room("the count of tiles", tiles.count, 1)?;
            tiles.most
        }
        None => tokens.div_ceil(VARIANTS[at].tokens),
    };
    // It writes halves in eights.
    let eights = how < ROUND || (weights.rows.is_multiple_of(8) && pitch.is_multiple_of(8));
    let maps = weights.map().filter(|_| in_blocks == Blocks::Many && eights);
    let variant = if maps.is_some() { MOST } else { VARIANTS[at] };
    let blocks_of_tile = match tiles {
        Some(tiles) if maps.is_none() => tiles.size.tokens().div_ceil(variant.tokens),
        _ => 1,
    };
    let raw = Raw {
        first: weights.raw(),
        second: second.map_or(RawWeights { codes: 0, scales: 0 }, Matrix::raw),
        group_codes: form.code_bytes(weights.rows, inputs) as u64,
        group_scales: form.scale_bytes(weights.rows, inputs) as u64,
        x: x.address(),
        index: address(row_index),
        tiles: address(tiles.map(|tiles| tiles.tiles)),
        tile_count: address(tiles.map(|tiles| tiles.count)),
        out: out.address(),
        bias: address(bias),
        rows: int(rows),
        k: int(inputs),
        tokens: int(tokens),
        group_shift: form.shift().into(),
        out_pitch: int(pitch),
        x_pitch: int(inputs),
        how,
        blocks_of_tile: int(blocks_of_tile),
        cluster_tokens: int(cluster_tokens(rows, tokens, processors / 2)),
    };
    let row_blocks = grid(rows.div_ceil(variant.rows));
    if let Some(map) = maps {
        let shared = variant.shared(form) + MOST_BEHIND;
        let token_tiles =
            if tiles.is_some() { token_tiles } else { tokens.div_ceil(raw.cluster_tokens as usize) };
        let clusters = (row_blocks * grid(token_tiles)).min(device.multiprocessors() / 2);
        let blocks = (2 * clusters, 1, 1);
        return match second.and_then(Matrix::map) {
            Some(second) => {
                launch!(device, "bf16_gated_most", blocks, variant.threads, shared, raw, *map, *second)
            }
            None => launch!(device, "bf16_most", blocks, variant.threads, shared, raw, *map),
        };
    }
    let kernel = NAMES[index(form)][usize::from(gated)][at];
    let blocks = (row_blocks, grid(token_tiles * blocks_of_tile), 1);
    launch!(device, kernel, blocks, variant.threads, variant.shared(form), raw)
}

const _: () = assert!(TileSize::Many.tokens() == 2 * MOST.tokens, "two blocks share a tile");
