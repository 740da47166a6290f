//! Streams of GPUs, each a device.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use reprise_kernels::attention::BLOCK_TOKENS;
use reprise_scheduler::{Backend, ModelLayout, ScheduleKind};

use super::{ExpertParallel, ExpertParallelError, Machine, SPIN, checkpoint, cores, kv_blocks};
use crate::{
    DeviceKind, EngineError,
    backend::cuda::{CudaBackend, CudaOptions},
};

/// Of a base that computes nothing itself.
const FEW_ROWS: usize = 64;
const MOST_CONTEXT: usize = 4096;

/// Weights are on each GPU once.
pub(in super::super) struct Streams {
    gpus: BTreeMap<usize, CudaBackend>,
    /// Of each device.
    ordinals: Vec<usize>,
}

impl Streams {
    pub(in super::super) fn load(options: &ExpertParallel) -> Result<Self, ExpertParallelError> {
        let ordinal = |device: &DeviceKind| match device {
            DeviceKind::Cuda(ordinal) => Some(*ordinal),
            DeviceKind::Cpu => None,
        };
        let ordinals: Vec<usize> = options.devices.iter().filter_map(ordinal).collect();
        let mut gpus = BTreeMap::new();
        for ordinal in ordinals.iter().copied() {
            if gpus.contains_key(&ordinal) {
                continue;
            }
            let base = CudaOptions {
                ordinal,
                rows: FEW_ROWS,
                sequences: 8,
                kv_blocks: 16,
                context_length: Some(MOST_CONTEXT),
            };
            let mut checkpoint = checkpoint(options)?;
            let loaded = CudaBackend::load(&mut checkpoint, &base, &mut |_| {}, &|| false)?;
            gpus.insert(ordinal, loaded);
        }
        Ok(Self { gpus, ordinals })
    }

    fn base(&self, index: usize) -> Result<&CudaBackend, EngineError> {
        let base = self.ordinals.get(index).and_then(|ordinal| self.gpus.get(ordinal));
        base.ok_or_else(|| EngineError::Inconsistent(format!("there is no device {index}")))
    }

    fn first(&self) -> &CudaBackend {
        // `load` refuses an empty list of devices.
        &self.gpus[&self.ordinals[0]]
    }
}

impl Machine for Streams {
    type Device = CudaBackend;

    fn layout(&self) -> &ModelLayout {
        self.first().layout()
    }

    fn device(
        &self,
        options: &ExpertParallel,
        schedule: ScheduleKind,
        index: u16,
    ) -> Result<CudaBackend, ExpertParallelError> {
        let base = self.base(index.into())?;
        let options = CudaOptions {
            ordinal: base.device().ordinal(),
            rows: options.rows(schedule),
            sequences: options.batch.get(),
            kv_blocks: kv_blocks(options),
            context_length: Some(options.longest().next_multiple_of(BLOCK_TOKENS)),
        };
        Ok(base.sibling(&options)?)
    }

    fn devices(
        &self,
        options: &ExpertParallel,
        schedule: ScheduleKind,
    ) -> Result<Vec<CudaBackend>, ExpertParallelError> {
        let mut devices = (0..options.count())
            .map(|index| self.device(options, schedule, index))
            .collect::<Result<Vec<_>, _>>()?;
        let opened: Vec<_> = devices.iter().map(|device| Arc::clone(device.device())).collect();
        for device in &mut devices {
            device.connect(&opened).map_err(EngineError::from)?;
        }
        Ok(devices)
    }

    fn name(&self) -> String {
        // Ways are opened with the devices; here only whether they can be.
        let reaches = |ordinal: &usize| {
            let (first, other) = (self.first().device(), self.gpus[ordinal].device());
            first.reach(other).unwrap_or(false) && other.reach(first).unwrap_or(false)
        };
        let way = if self.ordinals.iter().all(reaches) {
            "kernels write each other's memory"
        } else {
            "the driver copies between them"
        };
        format!("a stream of {} of {} GPUs, {way}", self.first().device().name(), self.gpus.len())
    }

    fn many(&self) -> usize {
        512
    }

    fn spin(&self) -> Duration {
        // Each has a core to itself, and the one who sends requests too.
        if cores() > self.ordinals.len() + 1 { Duration::from_millis(2) } else { SPIN }
    }
}
