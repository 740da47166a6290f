use super::{Module, TileSize, Tiles, grid, int, launch, module, room};
use crate::{CudaError, Device, MAX_EXPERTS, MAX_TOP_K, View};

/// Rows from which on choosing is a launch of its own.
const FEW_ROWS: usize = 16;

pub(super) fn kernels() -> Module {
    module("route.cu", include_str!("../kernels/route.cu"), &["top_k", "group_parts", "route_few"])
}

/// The experts of each row, from the gate's logits.
#[derive(Debug, Clone, Copy)]
pub struct Routing<'a> {
    /// [rows, experts]
    pub logits: View<'a, f32>,
    /// [rows, top_k], largest weight first.
    pub chosen: View<'a, u32>,
    /// [rows, top_k]
    pub weights: View<'a, f32>,
    pub renormalise: bool,
}

/// The parts of each expert side by side.
#[derive(Debug, Clone, Copy)]
pub struct Grouping<'a> {
    /// [rows, top_k]: the place of each part.
    pub part_of: View<'a, u32>,
    /// [rows * top_k]: the row of each place.
    pub row_of: View<'a, u32>,
    pub tiles: Tiles<'a>,
    /// How many rows there are, at most `rows`.
    pub count: View<'a, u32>,
    pub rows: usize,
    pub experts: usize,
    pub top_k: usize,
}

#[repr(C)]
struct RawRoute {
    logits: u64,
    chosen: u64,
    weights: u64,
    rows: u64,
    experts: i32,
    top_k: i32,
    renormalise: i32,
}

#[repr(C)]
struct RawGroup {
    chosen: u64,
    rows: u64,
    part_of: u64,
    row_of: u64,
    tiles: u64,
    tile_count: u64,
    experts: i32,
    top_k: i32,
    tile: i32,
}

impl RawRoute {
    fn new(routing: &Routing<'_>, count: View<'_, u32>, experts: usize, top_k: usize) -> Self {
        Self {
            logits: routing.logits.address(),
            chosen: routing.chosen.address(),
            weights: routing.weights.address(),
            rows: count.address(),
            experts: int(experts),
            top_k: int(top_k),
            renormalise: routing.renormalise.into(),
        }
    }
}

fn check_top_k(experts: usize, top_k: usize) -> Result<(), CudaError> {
    if experts == 0 || experts > MAX_EXPERTS || top_k == 0 || top_k > MAX_TOP_K.min(experts) {
        return Err(CudaError::Shape(format!("the top {top_k} of {experts} experts")));
    }
    Ok(())
}

impl Grouping<'_> {
    fn raw(&self, chosen: View<'_, u32>) -> Result<RawGroup, CudaError> {
        let Self { rows, experts, top_k, tiles, .. } = *self;
        check_top_k(experts, top_k)?;
        room("chosen experts", chosen, rows * top_k)?;
        room("places of parts", self.part_of, rows * top_k)?;
        room("rows of parts", self.row_of, rows * top_k)?;
        room("a count of rows", self.count, 1)?;
        let most = TileSize::most(tiles.size, rows * top_k, experts);
        room("tiles", tiles.tiles, most)?;
        room("a count of tiles", tiles.count, 1)?;
        Ok(RawGroup {
            chosen: chosen.address(),
            rows: self.count.address(),
            part_of: self.part_of.address(),
            row_of: self.row_of.address(),
            tiles: tiles.tiles.address(),
            tile_count: tiles.count.address(),
            experts: int(experts),
            top_k: int(top_k),
            tile: int(tiles.size.tokens()),
        })
    }
}

/// Chooses experts and groups the parts.
///
/// # Errors
/// Shapes do not fit, or a launch failed.
pub fn route(device: &Device, routing: &Routing<'_>, grouping: &Grouping<'_>) -> Result<(), CudaError> {
    let Grouping { rows, experts, top_k, .. } = *grouping;
    let group = grouping.raw(routing.chosen)?;
    room("logits of the gate", routing.logits, rows * experts)?;
    room("weights of experts", routing.weights, rows * top_k)?;
    let choose = RawRoute::new(routing, grouping.count, experts, top_k);
    if rows <= FEW_ROWS {
        return launch!(device, "route_few", (1, 1, 1), 1024, 0, choose, group);
    }
    launch!(device, "top_k", (grid(rows.div_ceil(4)), 1, 1), 128, 0, choose)?;
    launch!(device, "group_parts", (1, 1, 1), 1024, 0, group)
}

/// Chooses experts; who groups the parts is the host. `count`: how many rows there are, at most `rows`.
///
/// # Errors
/// Shapes do not fit, or the launch failed.
pub fn choose(
    device: &Device,
    routing: &Routing<'_>,
    count: View<'_, u32>,
    [rows, experts, top_k]: [usize; 3],
) -> Result<(), CudaError> {
    check_top_k(experts, top_k)?;
    room("logits of the gate", routing.logits, rows * experts)?;
    room("chosen experts", routing.chosen, rows * top_k)?;
    room("weights of experts", routing.weights, rows * top_k)?;
    room("a count of rows", count, 1)?;
    let raw = RawRoute::new(routing, count, experts, top_k);
    launch!(device, "top_k", (grid(rows.div_ceil(4)), 1, 1), 128, 0, raw)
}

/// Groups parts whose experts are known.
///
/// # Errors
/// Shapes do not fit, or the launch failed.
pub fn group_parts(device: &Device, chosen: View<'_, u32>, grouping: &Grouping<'_>) -> Result<(), CudaError> {
    let group = grouping.raw(chosen)?;
    launch!(device, "group_parts", (1, 1, 1), 1024, 0, group)
}
