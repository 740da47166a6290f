use std::{collections::BTreeMap, sync::Arc};

use reprise_scheduler::{ExpertId, Moment, Pipeline, SubLayerId};

use crate::{
    record::{Record, label},
    worker::{Pulse, State},
};

/// What a device has done since its record began, and what waits on it, as it last told.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct DeviceView {
    pub told: Moment,
    pub busy_seconds: f64,
    /// By kind of call: calls, and their rows or parts all together.
    pub calls: BTreeMap<&'static str, (u64, u64)>,
    /// Entries that wait, by sub-layer, those of a gated one's experts apart.
    pub queue_depth: BTreeMap<String, usize>,
    /// Its experts, by gated sub-layer and expert.
    pub experts: BTreeMap<(SubLayerId, ExpertId), ExpertView>,
    /// In rows: a part is a share of one.
    pub mean_queue_depth: f64,
    pub oldest_seconds: f64,
    pub kv_blocks_held: usize,
    pub kv_blocks: usize,
}

/// One expert.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ExpertView {
    /// Parts that wait for it.
    pub waiting: usize,
    /// Parts that it computed.
    pub parts: u64,
}

impl DeviceView {
    pub(crate) fn of(record: &Record, pipeline: &Pipeline, now: Moment) -> Self {
        let mut depths: BTreeMap<_, usize> = pipeline.stages().map(|stage| (stage, 0)).collect();
        let idle = |(sub_layer, expert)| {
            ((sub_layer, expert), ExpertView { waiting: 0, parts: record.parts_of(sub_layer, expert) })
        };
        let mut experts: BTreeMap<_, _> = pipeline.hosted().map(idle).collect();
        for part in pipeline.waiting_parts() {
            experts.entry(part).or_default().waiting += 1;
        }
        for queue in pipeline.waiting() {
            *depths.entry(queue.stage).or_default() += queue.depth;
        }
        let kv = pipeline.core().kv();
        Self {
            told: now,
            busy_seconds: record.busy_seconds(),
            calls: record.calls(),
            queue_depth: depths.into_iter().map(|(stage, depth)| (label(stage), depth)).collect(),
            experts,
            mean_queue_depth: pipeline.mean_depth(),
            oldest_seconds: pipeline.oldest().map_or(0.0, |oldest| now.since(oldest).as_secs_f64()),
            kv_blocks_held: kv.held(),
            kv_blocks: kv.len(),
        }
    }

    /// Parts that its experts computed.
    #[must_use]
    pub fn expert_parts(&self) -> u64 {
        self.calls.get("experts").map_or(0, |(_, parts)| *parts)
    }
}

/// Looks at a cluster's devices from anywhere, at any time.
#[derive(Debug, Clone)]
pub struct Watch(Vec<Arc<Pulse>>);

impl Watch {
    pub(crate) fn new(pulses: impl Iterator<Item = Arc<Pulse>>) -> Self {
        Self(pulses.collect())
    }

    /// What each device does, as it last told; by device, without those that have ended.
    #[must_use]
    pub fn views(&self) -> Vec<DeviceView> {
        let lives = |pulse: &&Arc<Pulse>| matches!(pulse.state(), State::Running | State::Delivering);
        self.0.iter().filter(lives).map(|pulse| pulse.view()).collect()
    }
}
