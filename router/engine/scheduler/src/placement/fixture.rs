//! For tests of placements.

use super::{Demand, DeviceId, Greedy, Loads, Placement, PlacementError, Planner, Roles};
use crate::{ModelLayout, SubLayerKind};

/// Of so many layers, each with attention and then experts.
pub(super) fn layout(layers: usize, experts: u16) -> ModelLayout {
    ModelLayout {
        sub_layers: [SubLayerKind::Attention, SubLayerKind::Experts { experts, top_k: 1 }].repeat(layers),
        vocabulary: 8,
        rows: 8,
        kv_blocks: 8,
        kv_block_tokens: 4,
        context_length: 32,
    }
}

/// With each expert a group; `load(layer, expert)`.
pub(super) fn place(
    layout: &ModelLayout,
    load: impl Fn(usize, u16) -> f64,
    devices: u16,
    roles: Roles,
    replicas: usize,
) -> Result<Placement, PlacementError> {
    let loads = Loads::with(layout, |at, expert, _| load(at / 2, expert));
    let devices: Vec<_> = (0..devices).map(DeviceId).collect();
    Greedy.place(&Demand { layout, devices: &devices, roles, experts_per_group: 1, replicas, loads: &loads })
}
