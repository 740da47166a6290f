use std::sync::Arc;

use super::Executor;
use crate::{
    ModelLayout,
    placement::{DeviceId, Placement},
    schedule::{ScheduleKind, StageCosts},
};

/// One of several micro-batches that are in flight at once, each with rows, queues and a barrier of its own (ping-pong).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lane {
    pub index: u8,
    pub of: u8,
}

impl Lane {
    pub const ONLY: Self = Self { index: 0, of: 1 };
}

impl Executor {
    /// The lanes of one of many workers: one, or two where the schedule knows ping-pong. `layout.rows` are those of all lanes of all devices
    /// with attention together.
    #[must_use]
    pub fn lanes(
        layout: &ModelLayout,
        placement: &Arc<Placement>,
        me: DeviceId,
        kind: ScheduleKind,
        costs: &StageCosts,
    ) -> Vec<Self> {
        let of = kind.lanes();
        let hosting: Vec<_> =
            (0..layout.sub_layers.len()).map(|at| placement.hosting(layout, at, me)).collect();
        let lane = |index| {
            // Beside the first there is nothing but lock-step.
            let kind = if index == 0 { kind } else { ScheduleKind::Lockstep };
            let schedule = kind.build(&layout.sub_layers, costs, &hosting);
            Self::on(layout, placement, me, Lane { index, of }, schedule)
        };
        (0..of).map(lane).collect()
    }
}
